"""The interface of a backend: the one seam between HAMS and an inference runtime.

A backend opens one compute unit of this host and loads networks on it. Everything here is blocking and never
called from the event loop: :meth:`Backend.load` comes from the loader's thread, also while the device's own
threads, one per lane, are inside :meth:`Network.infer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Capabilities:
    """Properties of a device, as its agent advertises them."""

    backend: str
    """``openvino``, ``onnxruntime`` or ``emulated``."""
    unit: str
    """The unit's short name, a subject token: ``cpu0``, ``gpu``, ``cuda0``, ``vpu``."""
    kind: str
    """``cpu``, ``gpu``, ``npu`` or ``vpu``."""
    name: str
    """The hardware's own name, e.g. ``Intel(R) Xeon(R) Processor @ 2.60GHz``."""
    cores: tuple[int, ...]
    """CPU cores the process is pinned to; empty: not pinned."""
    memory_mib: int
    """Memory that models may use, MiB."""
    precisions: tuple[str, ...]
    """Precisions the device computes in, e.g. ``("fp32", "bf16")``; the first is the one used."""
    runtime: str
    """Runtime and version, e.g. ``openvino 2026.4.1``."""
    lanes: int = 1
    """Inferences that run at the same time, each on its part of the device."""
    threads: int = 0
    """CPU threads that compute; 0: the computing is not done by CPU threads."""
    limit: str = ""
    """The limit that keeps a CPU device from all of its cores: ``2 of 16 cores (cgroup quota)``."""
    variant: str = ""
    """Other settings that the speed depends on, as a short digest (an emulation profile's content); part of the
    fingerprint."""
    emulated: bool = False
    """Whether the throughput is given by a profile; such a device is always labelled emulated."""
    idle_w: float = 0.0
    """Power, W; 0: not known."""
    busy_w: float = 0.0
    """Power with all lanes busy, W; 0: not known."""


@dataclass(frozen=True)
class ModelFile:
    """A network file in the agent's cache."""

    name: str
    """The node's or model's readable name, for messages and emulation profiles."""
    digest: str
    """SHA-256 of the file, hex."""
    path: Path
    """Where it lies; the suffix (``.onnx``, ``.tflite``, ``.xml`` with ``.bin`` next to it …) names the
    format."""
    input_shape: tuple[int, ...]
    """Input tensor for ONE image, batch axis first, e.g. (1, 3, 480, 640)."""
    dtype: str = "f32"
    """Element type of the input: ``f32`` or ``u8``."""
    lanes: int = 0
    """Inferences of it at a time, where fewer than the device's lanes give more throughput; 0: one per lane."""


class Network(Protocol):
    """A loaded network. As many threads as the device has lanes may call :meth:`infer` at a time."""

    @property
    def dynamic_batch(self) -> bool:
        """Whether :meth:`infer` takes any batch size; if not, it loops over the batch itself."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the network file, by key (ONNX ``metadata_props``); for tasks."""
        ...

    @property
    def memory_mib(self) -> float:
        """Measured growth of resident (or device) memory by loading, MiB."""
        ...

    @property
    def load_ms(self) -> float:
        """Time to read and compile, ms."""
        ...

    def infer(self, batch: NDArray[np.generic], *, alone: bool = True) -> Mapping[str, NDArray[np.generic]]:
        """Run `batch` (N×…, as ``ModelFile.input_shape`` with N images) and return outputs by name, N first.

        With `alone` it uses the whole device, otherwise one lane's part of it.

        Raises:
            ModelError: the runtime failed; the text is its reason in one line.
        """
        ...

    def close(self) -> None:
        """Release the network's memory."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A network that counts for its device what it replays and computes."""

    def leave_out(self) -> None:
        """Count apart from now on: the network is only measured."""
        ...


class Backend(Protocol):
    """One opened compute unit."""

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        ...

    def load(self, model: ModelFile) -> Network:
        """Read, check and compile `model`.

        Raises:
            UnsupportedModelError: this runtime or device cannot run such a model (format, operator, shape).
            ModelError: the file is corrupt, or does not take `model.input_shape`.
        """
        ...

    def close(self) -> None:
        """Release the device."""
        ...
