"""Finds the devices of this host.

It loads every runtime to ask it, so others call :func:`describe_devices` in a child process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from hams_agents.backends.registry import open_backend
from hams_agents.cpus import here
from hams_agents.devices import parse
from hams_shared.errors import DeviceSpecError


@dataclass(frozen=True)
class Found:
    """A device that opens here."""

    device: str
    """The name to start an agent with."""
    kind: str
    name: str
    memory_mib: int
    runtime: str


@dataclass(frozen=True)
class Skipped:
    """A device that does not open, and why."""

    device: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Discovery:
    """The devices of this host."""

    found: tuple[Found, ...]
    skipped: tuple[Skipped, ...]
    cores: str = ""
    """The part of the host's CPU that this process may use, for people."""


def discover() -> Discovery:
    """Open every device this host may have: OpenVINO's, the CPU once, NVIDIA's GPUs."""
    found: list[Found] = []
    skipped: list[Skipped] = []
    names = [*_names(_openvino_targets, "openvino", skipped), *_names(_cuda_targets, "onnxruntime", skipped)]
    if "openvino:CPU" not in names:
        names.insert(0, "onnxruntime:CPU")
    for name in names:
        try:
            found.append(_open(name))
        except DeviceSpecError as error:
            skipped.append(Skipped(name, error.text, error.hint))
    return Discovery(tuple(found), tuple(skipped), str(here()))


def describe_devices() -> dict[str, Any]:
    """Return :func:`discover` as plain values::

    {"found": [{"device": "openvino:CPU", "kind": "cpu", "name": "…", "memory_mib": 16000, "runtime": "…"}],
     "skipped": [{"device": "onnxruntime:CUDA:0", "reason": "…", "hint": "…"}],
     "cores": "2 of 16 cores (cgroup quota)"}
    """
    return asdict(discover())


def _names(targets: Callable[[], list[str]], backend: str, skipped: list[Skipped]) -> list[str]:
    try:
        return [f"{backend}:{target}" for target in targets()]
    except ImportError as error:
        skipped.append(Skipped(backend, f"cannot be imported: {error}", "install it"))
        return []


def _openvino_targets() -> list[str]:
    import openvino as ov

    return [str(target) for target in ov.Core().available_devices if str(target)[:3] in ("CPU", "GPU", "NPU")]


def _cuda_targets() -> list[str]:
    from hams_agents.backends import cuda

    return [f"CUDA:{index}" for index in range(cuda.count())]


def _open(name: str) -> Found:
    backend = open_backend(parse(name))
    able = backend.capabilities
    backend.close()
    return Found(name, able.kind, able.name, able.memory_mib, able.runtime)
