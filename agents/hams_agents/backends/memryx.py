"""MemryX MX3 by its SDK's Python package (``memryx``, 2.0 or newer) and the service mxa-manager. Reads ``.dfp``.

NEVER RUN ON HARDWARE: written to the source of the SDK's ``SyncAccl`` (2.x), and tested with a stand-in for it.

The accelerator is a stream: frames go in and come out in order. Lanes put theirs in one after the other, and each takes
its own out when it is its turn, so that several are under way. (``SyncAccl.run`` would start two threads and sleep
10 ms for each.)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hams_agents.backends import host
from hams_agents.backends.base import Backend, BackendType, Capabilities, ModelFile
from hams_agents.backends.compiled import NEVER_RUN, WAIT_MS, Compiled, CompiledBackend, missing, npu
from hams_agents.backends.network import Array
from hams_agents.devices import MOST_REQUESTS, DeviceSpec, request_lanes
from hams_shared.errors import DeviceSpecError, UnsupportedModelError

DEV = Path("/dev")
_HOW = "install the MemryX SDK: its driver, mxa-manager and the package memryx (developer.memryx.com)"


class Memryx(BackendType):
    """MX3 modules, ``memryx:NPU`` or ``memryx:NPU:1``, by the number that the driver gives them (``/dev/memx1``)."""

    note = NEVER_RUN

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`."""
        return npu("memryx", target)

    @staticmethod
    def targets() -> Sequence[str]:
        """See :meth:`BackendType.targets`."""
        if _modules() and not find_spec("memryx"):
            raise DeviceSpecError("there is a MemryX module, but no package memryx", _HOW)
        return [f"NPU:{number}" for number in _modules()]

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """See :meth:`BackendType.open`."""
        try:
            from memryx import SyncAccl
        except ImportError as error:
            raise missing(spec, "MemryX's SDK", _HOW, error) from error
        number = int(spec.target.partition(":")[2])
        if number not in _modules():
            listed = ", ".join(f"NPU:{i}" for i in _modules()) or "none"
            raise DeviceSpecError(f"device {spec}: there is no {DEV}/memx{number}", f"there is {listed}")
        able = Capabilities(
            backend="memryx",
            unit=spec.unit,
            kind="npu",
            name="MemryX MX3",
            cores=spec.cores,
            memory_mib=host.memory_share_mib(spec.cores),
            precisions=("bf16",),
            runtime=f"memryx {_version()}",
            lanes=request_lanes(MOST_REQUESTS, spec.threads),
        )
        return CompiledBackend(able, ".dfp", "MemryX", lambda model: _read(SyncAccl, model, number, able.lanes))


def _modules() -> list[int]:
    return sorted(int(path.name[4:]) for path in DEV.glob("memx*") if path.name[4:].isdecimal())


def _version() -> str:
    try:
        return version("memryx")
    except PackageNotFoundError:
        return "?"


def _read(cls: Any, model: ModelFile, number: int, lanes: int) -> Compiled:
    """Load the file for images in the shape of the network that it was compiled from."""
    accelerator = cls(str(model.path), device_ids=[number])
    if len(accelerator.models) != 1 or len(accelerator.inport_assignment(0)) != 1:
        accelerator.shutdown()
        raise UnsupportedModelError(
            f"model {model.name} is {len(accelerator.models)} networks, or has several inputs",
            "compile one with one input",
        )
    names = [str(layer) for _, layer in sorted(accelerator.outport_assignment(0).items())]
    stream = _Stream(accelerator)
    count = min(model.lanes or lanes, lanes)
    return Compiled(np.float32, None, names, [stream] * count, accelerator.shutdown)


class _Stream:
    """Several lanes on one accelerator: first in, first out."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._sending = threading.Lock()
        self._turn = threading.Condition()
        self._sent = self._received = 0
        self._broken = ""

    def __call__(self, images: Array) -> list[Array]:
        with self._sending:
            if self._broken:
                raise RuntimeError(f"the accelerator lost its order: {self._broken}")
            self._accelerator.send(images, timeout=WAIT_MS)
            place, self._sent = self._sent, self._sent + 1
        with self._turn:
            if not self._turn.wait_for(lambda: self._received == place or self._broken, WAIT_MS / 1e3):
                self._broken = "a frame before this one did not come out"  # nobody will take this one's out
            if self._broken:
                raise TimeoutError(self._broken)
        try:
            outputs = self._accelerator.receive(timeout=WAIT_MS)
        except Exception as error:
            self._next(f"{type(error).__name__}: {error}")
            raise
        self._next()
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        return [np.array(output) for output in several]

    def _next(self, broken: str = "") -> None:
        with self._turn:
            self._received += 1
            self._broken = self._broken or broken
            self._turn.notify_all()
