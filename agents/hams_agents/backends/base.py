"""The interface of a backend: the one seam between HAMS and an inference runtime.

A backend opens one compute unit of this host and loads networks on it. Everything here is blocking and never
called from the event loop: :meth:`Backend.load` comes from the loader's thread, also while the device's own
threads, one per lane, are inside :meth:`Network.infer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hams_agents.devices import DeviceSpec
from hams_agents.question import Question


@dataclass(frozen=True)
class Capabilities:
    """Properties of a device, as its agent advertises them."""

    backend: str
    """The backend's name, as device names begin with it: ``openvino``."""
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
    """Runtime and version, and of a device with a driver its version, too: ``openvino 2026.4.1, driver 1.19.0``. A
    measurement holds for these versions."""
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
    device_file: str = ""
    """A file that is there while the device is, such as ``/dev/memx0``: when it disappears, the device is gone."""
    compile_apart: bool = False
    """Whether a network is compiled in a child process first, since the device's driver may abort the process."""


@dataclass(frozen=True)
class TensorSpec:
    """A further input of a network, next to its image."""

    name: str
    """As the file names it."""
    shape: tuple[int, ...]
    """For ONE image, batch axis first, e.g. (1, 2); -1: any size."""
    dtype: str = "float32"
    """Element type, as NumPy names it: ``float32``, ``int64`` …"""
    batched: bool = True
    """Whether the network's own input has the batch axis; if not, it takes ``shape[1:]``, and one image at a time."""
    example: tuple[float, ...] = ()
    """Values where no frame gives any (measuring, the first inference), broadcast to the shape; empty: zeros."""


Further = Mapping[str, NDArray[Any]]
"""Values of further inputs by name, N first: one row per image."""
NO_FURTHER: Further = MappingProxyType({})


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
    further: tuple[TensorSpec, ...] = ()
    """The network's inputs besides the image, in the order of the file."""


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

    def infer(
        self, batch: NDArray[np.generic], *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, NDArray[np.generic]]:
        """Run `batch` (N×…, as ``ModelFile.input_shape`` with N images) and return outputs by name, N first.

        `further` holds the values of all inputs in ``ModelFile.further``, each N×… with a row per image. With `alone`
        it uses the whole device, otherwise one lane's part of it.

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


@runtime_checkable
class Generating(Protocol):
    """A network that writes text over seconds, one picture at a time: it is run beside the device's lanes."""

    def asked(self, question: Question) -> Network:
        """Return the same network, asked `question` about each picture."""
        ...

    def end(self) -> None:
        """Write no more: what is being written ends at its next token."""
        ...


# `isinstance` of Python 3.12 does not see what a wrapper of a network passes on (`__getattr__`).


def counts(network: Network) -> TypeGuard[Counting]:
    """Whether a network, or the one that it wraps, is :class:`Counting`."""
    return callable(getattr(network, "leave_out", None))


def generates(network: Network) -> TypeGuard[Generating]:
    """Whether a network, or the one that it wraps, is :class:`Generating`."""
    return callable(getattr(network, "asked", None))


class Backend(Protocol):
    """One opened compute unit."""

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        ...

    def load(self, model: ModelFile) -> Network:
        """Read, check and compile `model`.

        Raises:
            UnsupportedModelError: this runtime or device cannot run such a model (format, operator, shape, further
                inputs).
            ModelError: the file is corrupt, or does not take `model.input_shape`.
        """
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class BackendType(Protocol):
    """What an entry point of the group ``hams.backends`` names: a class; its name begins the names of its devices.

    The class may also be the :class:`Backend` itself, whose `open` returns an instance. Its module must not import the
    runtime: it is loaded before the process is pinned to cores, and a runtime counts them when it is imported.
    """

    note: str = ""
    """What people should know of its devices, in `hams-ctl devices --discover`: ``never run on real hardware``."""

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """Return the `target` of a device name, ``NAME:TARGET@CORES``, as the runtime writes it, and its unit.

        The unit is the device's short name on its host, a subject token (lower-case letters, digits, ``-``, ``_``).
        The cores are appended to a unit ``cpu``. Called before the process is pinned: it imports no runtime.

        Raises:
            DeviceSpecError: there can be no such target; the hint says how they are written.
        """
        ...

    @staticmethod
    def targets() -> Sequence[str]:
        """Return the targets that this host has, for discovery, in a process of its own. Empty: none.

        Raises:
            ImportError: the runtime is not installed.
            DeviceSpecError: it cannot be asked; the text says why.
        """
        ...

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """Open the device `spec`; it may keep files, compiled networks for example, in its own folder under `cache`.

        The process is pinned to ``spec.cores``; a CPU computes with ``spec.threads`` threads.

        Raises:
            ImportError: the runtime is not installed.
            DeviceSpecError: there is no such device on this host; the hint lists those that are.
        """
        ...
