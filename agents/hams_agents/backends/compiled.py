"""What the backends of vendors share whose devices run files that the vendor's own tools compiled.

Such a file is for one kind of chip, has one size of input and a batch of one, and often has the pre-processing and
quantisation in it. HAMS runs it as it is: it makes no variants of it, and other devices do not read it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import DTypeLike

from hams_agents.backends.base import Capabilities, ModelFile
from hams_agents.backends.network import (
    BatchNetwork,
    Lanes,
    Run,
    check_file,
    check_shape,
    file_mib,
    one_line,
    release_memory,
)
from hams_shared.errors import DeviceSpecError, HamsError, ModelError, UnsupportedModelError
from hams_shared.runtime.process import resident_mib

NEVER_RUN = "never run on real hardware"
WAIT_MS = 10_000
"""Longest wait for one inference, ms."""


@dataclass(frozen=True)
class Compiled:
    """A compiled file on its device."""

    element: DTypeLike
    """Element type in which it takes images."""
    shape: tuple[int, ...] | None
    """Its input for one image, without the batch axis; None: the runtime does not tell."""
    names: Sequence[str]
    """Of the outputs; empty: the runtime does not tell, they are numbered."""
    runs: Sequence[Run]
    """One per lane."""
    release: Callable[[], None]
    """Frees it; called once."""


class CompiledNetwork(BatchNetwork):
    """A loaded network that frees its part of the device when it is closed, or nobody has it any more."""

    def __init__(self, model: ModelFile, compiled: Compiled, names: Sequence[str]) -> None:
        one = Lanes(compiled.runs)
        super().__init__(model, compiled.element, names, one, lambda: None, 0.0, one)
        self._release = weakref.finalize(self, compiled.release)
        self._release.atexit = False

    def close(self) -> None:
        """Release the network's memory, here and on the device."""
        self._release()
        super().close()


class CompiledBackend:
    """A device that runs compiled files; `read` loads one onto it, `release` frees the device."""

    def __init__(
        self,
        capabilities: Capabilities,
        suffix: str,
        vendor: str,
        read: Callable[[ModelFile], Compiled],
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._capabilities = capabilities
        self._suffix = suffix
        self._vendor = vendor
        self._read = read
        self._release = release

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        return self._capabilities

    def load(self, model: ModelFile) -> CompiledNetwork:
        """Read and check `model`; see :meth:`hams_agents.backends.base.Backend.load`."""
        check_file(model, frozenset({self._suffix}), self._vendor)
        if model.further:
            raise UnsupportedModelError(f"model {model.name}: {self._vendor} is given one input, the image")
        release_memory()
        memory, start = resident_mib(), time.perf_counter()
        try:
            compiled = self._read(model)
        except HamsError:
            raise
        except Exception as error:  # each vendor has its own
            text = one_line(error, model.path)
            raise ModelError(
                f"model {model.name} cannot be read: {text}", f"compile it again for {self._vendor}"
            ) from error
        loaded_ms = (time.perf_counter() - start) * 1e3
        try:
            if compiled.shape is not None:
                check_shape(model, (None, *compiled.shape))
            network = CompiledNetwork(model, compiled, compiled.names or _numbers(model, compiled))
        except BaseException:
            compiled.release()
            raise
        network.load_ms = loaded_ms
        network.memory_mib = max(resident_mib() - memory, file_mib(model.path))
        return network

    def close(self) -> None:
        """Release the device."""
        self._release()


def _numbers(model: ModelFile, compiled: Compiled) -> list[str]:
    """Return names for outputs whose runtime does not tell any: their places, ``0``, ``1`` …"""
    from hams_agents.backends.network import noise

    try:
        outputs = compiled.runs[0](noise(model, 1).astype(compiled.element))
    except Exception as error:
        raise ModelError(
            f"model {model.name} does not run: {one_line(error, model.path)}",
            "do the size, layout and dtype of the node's input fit the compiled file?",
        ) from error
    return [str(index) for index in range(len(outputs))]


def npu(backend: str, target: str, most: int = 1 << 10) -> tuple[str, str]:
    """Parse ``NPU`` (the first) or ``NPU:1`` into the target and the unit ``npu1``.

    Raises:
        DeviceSpecError: it is neither.
    """
    kind, _, number = target.upper().partition(":")
    number = number or "0"
    if kind != "NPU" or not number.isdecimal() or int(number) >= most:
        raise DeviceSpecError(
            f"{backend} has no unit {target.upper()!r}", f"use {backend}:NPU" + (" or NPU:1" * (most > 1))
        )
    return f"NPU:{int(number)}", f"npu{int(number)}"


def missing(spec: Any, vendor: str, how: str, error: ImportError) -> DeviceSpecError:
    """Return the error for a device whose vendor's package cannot be imported."""
    return DeviceSpecError(f"device {spec}: {vendor} cannot be imported: {one_line(error)}", how)
