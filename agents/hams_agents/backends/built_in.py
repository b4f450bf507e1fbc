"""Our own backends, as :class:`hams_agents.backends.base.BackendType` states; each runtime is imported when opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hams_agents.backends import ep_libraries
from hams_agents.backends.base import Backend, BackendType
from hams_agents.devices import DeviceSpec
from hams_agents.emulation_profile import read_profile
from hams_shared.errors import DeviceSpecError, HamsError
from hams_shared.runtime.child_process import ChildProcess

COUNT_S = 60.0
"""Longest time in which a plug-in provider counts its devices, s."""


class OpenVino(BackendType):
    """CPUs of any make, Intel's GPUs and NPUs."""

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`."""
        target = target.upper()
        if not re.fullmatch(r"CPU|(GPU|NPU)(\.\d+)?", target):
            raise DeviceSpecError(
                f"openvino has no unit {target!r}", _other_backend(target, "use CPU, GPU, GPU.1 or NPU")
            )
        return target, target.replace(".", "").lower()

    @staticmethod
    def targets() -> Sequence[str]:
        """See :meth:`BackendType.targets`."""
        import openvino as ov

        return [str(target) for target in ov.Core().available_devices if str(target)[:3] in ("CPU", "GPU", "NPU")]

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """See :meth:`BackendType.open`."""
        from hams_agents.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(spec)


class OnnxRuntime(BackendType):
    """CPUs, NVIDIA's GPUs through CUDA or TensorRT, and devices of the plug-in execution providers of wheels."""

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`."""
        libraries = ep_libraries.installed()
        name, _, index = target.partition(":")
        known = {"cuda": "CUDA", "tensorrt": "TensorRT", **{key: one.name for key, one in libraries.items()}}
        if target.upper() == "CPU":
            return "CPU", "cpu"
        if name.lower() in known and re.fullmatch(r"\d{1,3}|", index):
            return f"{known[name.lower()]}:{int(index or 0)}", f"{name.lower()}{int(index or 0)}"
        choice = "use " + ", ".join(("CPU", *(f"{one}:0" for one in known.values())))
        raise DeviceSpecError(f"onnxruntime has no unit {target!r}", _other_backend(target.upper(), choice))

    @staticmethod
    def targets() -> Sequence[str]:
        """See :meth:`BackendType.targets`. TensorRT is left out: it drives the same GPUs as CUDA."""
        from hams_agents.backends import cuda

        cards = [f"CUDA:{index}" for index in range(cuda.count())] if cuda.has_card() else []
        return ["CPU", *cards, *(target for one in ep_libraries.installed().values() for target in _devices(one.name))]

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """See :meth:`BackendType.open`."""
        from hams_agents.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(spec, cache)


class Emulated(BackendType):
    """Devices that keep the speed of a profile; the target is the profile's path."""

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`; reads the profile."""
        return str(Path(target).resolve()), read_profile(Path(target)).name

    @staticmethod
    def targets() -> Sequence[str]:
        """Return none: a profile is named by people."""
        return ()

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """See :meth:`BackendType.open`; outputs are recorded in the cache and replayed, without one computed."""
        from hams_agents.backends.emulated import EmulatedBackend
        from hams_agents.backends.registry import open_backend

        return EmulatedBackend(spec, open_backend, cache and cache / "outputs")


def _devices(provider: str) -> list[str]:
    """Return the devices of a plug-in provider, asked in a process of its own: a vendor's library may abort it.

    One of which none is found is listed with its first device: opening that says why.
    """
    count = 1
    with suppress(HamsError), ChildProcess() as child:
        count = child.run("hams_agents.backends.plugin_ep:count", {"name": provider}, timeout=COUNT_S)
    return [f"{provider}:{index}" for index in range(count)]


def _other_backend(target: str, choice: str) -> str:
    if target.startswith(("CUDA", "NVIDIA")):
        return "NVIDIA GPUs are onnxruntime:CUDA:0"
    if target.startswith(("GPU", "NPU")):
        return f"Intel's GPUs and NPUs are openvino:{target}"
    if target.startswith(("AUTO", "MULTI", "HETERO")):
        return "name one unit; dividing work over units is what HAMS does"
    return choice
