"""Rockchip's NPUs (RK3588, RK3576, RK3566/68 …) by ``rknn-toolkit-lite2``. Reads ``.rknn``.

NEVER RUN ON HARDWARE: written to Rockchip's documentation and examples of RKNN-Toolkit-Lite2 2.3, and tested with a
stand-in for its Python module. That module does not tell the names of outputs: they are ``0``, ``1`` …, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hams_agents.backends import host
from hams_agents.backends.base import Backend, BackendType, Capabilities, ModelFile
from hams_agents.backends.compiled import NEVER_RUN, Compiled, CompiledBackend, missing, npu
from hams_agents.backends.network import Array
from hams_agents.devices import DeviceSpec
from hams_shared.errors import DeviceSpecError, ModelError

COMPATIBLE = Path("/proc/device-tree/compatible")
"""Names the board and its chip, as zero-terminated strings; the vendor's runtime reads it, too."""
_CORES = {"rk3588": 3, "rk3576": 2}
"""Cores of the NPU; others have one, whose runtime takes no core mask."""
_HOW = "install rknn-toolkit-lite2 and librknnrt.so (github.com/airockchip/rknn-toolkit2)"


class Rknn(BackendType):
    """The NPU of the chip, ``rknn:NPU``, with a lane on each of its cores."""

    note = NEVER_RUN

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`."""
        return npu("rknn", target, most=1)

    @staticmethod
    def targets() -> Sequence[str]:
        """See :meth:`BackendType.targets`."""
        if not chip():
            return []
        if not find_spec("rknnlite"):
            raise DeviceSpecError(f"this is a {chip()}, but there is no package rknn-toolkit-lite2", _HOW)
        return ["NPU:0"]

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """See :meth:`BackendType.open`."""
        try:
            from rknnlite.api import RKNNLite
        except ImportError as error:
            raise missing(spec, "rknn-toolkit-lite2", _HOW, error) from error
        name = chip()
        if not name:
            raise DeviceSpecError(f"device {spec}: this is no Rockchip board", f"{COMPATIBLE} names none of its chips")
        cores = _CORES.get(name, 1)
        able = Capabilities(
            backend="rknn",
            unit=spec.unit,
            kind="npu",
            name=f"Rockchip {name.upper()}",
            cores=spec.cores,
            memory_mib=host.memory_share_mib(spec.cores),
            precisions=("int8", "fp16"),
            runtime=f"rknn-toolkit-lite2 {_version()}",
            lanes=min(cores, spec.threads),
        )
        return CompiledBackend(
            able, ".rknn", "RKNN-Toolkit-Lite2", lambda model: _read(RKNNLite, model, able.lanes, cores)
        )


def chip() -> str:
    """Return the Rockchip chip of this board, ``rk3588``; empty: it has none."""
    try:
        names = COMPATIBLE.read_bytes().decode("ascii", "replace").split("\0")
    except OSError:
        return ""
    chips = [name.partition(",")[2] for name in names if name.startswith("rockchip,r")]
    return next((known for known in _CORES for one in chips if one.startswith(known)), chips[-1] if chips else "")


def _version() -> str:
    try:
        return version("rknn-toolkit-lite2")
    except PackageNotFoundError:
        return "?"


def _read(cls: Any, model: ModelFile, lanes: int, cores: int) -> Compiled:
    """Open one context per lane, each on a core of its own; a context runs in one thread at a time."""
    masks = [cls.NPU_CORE_0, cls.NPU_CORE_1, cls.NPU_CORE_2]
    contexts: list[Any] = []

    def release() -> None:
        while contexts:
            contexts.pop().release()

    try:
        for lane in range(min(model.lanes or lanes, lanes)):
            contexts.append(cls(verbose=False))
            _done(contexts[-1].load_rknn(str(model.path)), model, "read", "convert it again with RKNN-Toolkit2")
            options = {"core_mask": masks[lane]} if cores > 1 else {}
            _done(contexts[-1].init_runtime(**options), model, "started", "is it made for this chip and runtime?")
    except BaseException:
        release()
        raise
    element = np.uint8 if model.dtype == "u8" else np.float32
    return Compiled(element, None, (), [_lane(context) for context in contexts], release)


def _done(code: int, model: ModelFile, what: str, hint: str) -> None:
    """Raise ModelError unless a call returned 0; the runtime prints why."""
    if code != 0:
        raise ModelError(f"model {model.name} cannot be {what} (code {code}; the runtime's own lines say why)", hint)


def _lane(context: Any) -> Callable[[Array], list[Array]]:
    def run(images: Array) -> list[Array]:
        outputs = context.inference(inputs=[images])
        if outputs is None:
            raise RuntimeError("the runtime gives no outputs; its own lines say why")
        return [np.array(output) for output in outputs]

    return run
