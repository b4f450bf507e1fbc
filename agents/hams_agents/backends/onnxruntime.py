"""ONNX Runtime: any CPU, NVIDIA's GPUs through CUDA or TensorRT, and devices of plug-in providers. Reads ONNX."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from hams_agents.backends import host
from hams_agents.backends.base import NO_FURTHER, Capabilities, Further, ModelFile
from hams_agents.backends.further import image_input
from hams_agents.backends.network import (
    Array,
    BatchNetwork,
    BySize,
    Lanes,
    Run,
    check_file,
    check_shape,
    check_type,
    file_mib,
    one_line,
    release_memory,
)
from hams_agents.backends.onnx_sizes import free_sizes
from hams_agents.devices import DeviceSpec, lanes, request_lanes
from hams_shared.errors import HamsError, ModelError, UnsupportedModelError
from hams_shared.runtime.process import resident_mib

FORMATS = frozenset({".onnx"})
_TYPES = {
    "tensor(float)": "f4",
    "tensor(float16)": "f2",
    "tensor(double)": "f8",
    "tensor(uint8)": "u1",
    "tensor(int8)": "i1",
}
_UNSUPPORTED = (
    "NOT_IMPLEMENTED",
    "not a registered function/op",
    "Unsupported model IR version",
    "opset",
    "Opset",
)
"""Marks of an error that means: a sound file, but not for this runtime."""
_LEAST_GAIN = 0.05
"""The same session runs batches, so that they cost nothing."""
_LEAST_GAIN_BY_SIZE = 0.2
"""On a GPU each size of batch takes a session of its own: memory, and time to load."""
_QUIET = 4
"""Log severity `fatal`: every failure is an exception already."""


class Unit(Protocol):
    """A device that is not the CPU under ONNX Runtime's own code for it."""

    kind: str
    """``gpu``, ``npu``, or ``cpu`` under a provider of its own."""
    name: str
    runtime: str
    """ONNX Runtime, provider and driver, with their versions."""
    precision: str
    requests: int
    """Inferences at a time that keep it busy."""
    batches: bool
    """Whether batches are tried; each size of them takes a session of its own: memory, and time to load."""
    static: bool
    """Whether it compiles a network for fixed sizes only."""
    apart: bool
    """Whether its driver may abort the process that compiles."""

    def memory_mib(self) -> tuple[float, float] | None:
        """Return used and total memory of the device, MiB; None: it does not say."""
        ...

    def open(self, model: ModelFile, options: Any, sizes: Mapping[str, int]) -> Any:
        """Open a session on the device and nowhere else; `sizes` are those of its free axes, by name."""
        ...


class OnnxRuntimeBackend:
    """The CPU, or one device of a provider.

    Args:
        spec: the device; its target was checked by `hams_agents.backends.built_in`.
        cache: a folder for compiled networks.

    Raises:
        DeviceSpecError: the device does not work here.
    """

    def __init__(self, spec: DeviceSpec, cache: Path | None = None) -> None:
        ort.set_default_logger_severity(_QUIET)
        self._unit = open_unit(spec.target, cache)
        self._threads = spec.threads
        self._capabilities = _capabilities(spec, self._unit)

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        return self._capabilities

    def load(self, model: ModelFile) -> BatchNetwork:
        """Read, check and compile `model`; see :meth:`hams_agents.backends.base.Backend.load`."""
        check_file(model, FORMATS, "ONNX Runtime")
        release_memory()
        used = self._used()
        memory, start = used(), time.perf_counter()
        unit = self._unit
        free = free_sizes(model) if unit is not None and unit.static else {}
        session = self._open(model, self._threads, free)
        port, any_batch = _image_input(session, model)
        any_batch |= 0 in free.values()
        names = [output.name for output in session.get_outputs()]
        run = _Session(session, port.name)
        lanes = self._capabilities.lanes
        at_a_time = min(model.lanes or lanes, lanes)
        one, every = Lanes([run]), Lanes([run] * at_a_time)  # a session runs in all threads that call it
        if at_a_time == 1:
            every = one
        elif unit is None:  # besides them, it computes in threads of its own
            every = Lanes([_Session(self._open(model, self._threads // lanes), port.name)] * at_a_time)
        compiled_ms = (time.perf_counter() - start) * 1e3

        def many() -> Run | None:
            if not any_batch or (lanes > 1 if unit is None else not unit.batches):
                return None
            if unit is None:
                return run
            return BySize(lambda images: _Session(self._open(model, self._threads, free, images), port.name))

        least_gain = _LEAST_GAIN if unit is None else _LEAST_GAIN_BY_SIZE
        network = BatchNetwork(model, _TYPES[port.type], names, one, many, least_gain, every)
        network.load_ms = compiled_ms
        network.metadata = dict(session.get_modelmeta().custom_metadata_map)
        release_memory()
        network.memory_mib = max(used() - memory, file_mib(model.path))
        return network

    def close(self) -> None:
        """Release the device."""

    def _used(self) -> Callable[[], float]:
        unit = self._unit
        if unit is None or unit.memory_mib() is None:
            return resident_mib
        return lambda: (unit.memory_mib() or (0.0, 0.0))[0]

    def _open(self, model: ModelFile, threads: int, free: Mapping[str, int] | None = None, images: int = 1) -> Any:
        """Open a session; a device of fixed sizes gets them for so many `images`, by the axes of `free`."""
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A resident session's threads must not spin while another network runs: that costs it half of the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # For the session's own threads; those that ask for an inference take part in it.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            if self._unit is not None:
                shape = (images, *model.input_shape[1:])
                return self._unit.open(model, options, {name: shape[axis] for name, axis in (free or {}).items()})
            cpu = ["CPUExecutionProvider"]
            return ort.InferenceSession(str(model.path), options, providers=cpu, enable_fallback=0)
        except HamsError:
            raise
        except Exception as error:
            raise _error(model, error) from error


class _Session:
    """Runs one session."""

    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        self._name = name

    def __call__(self, images: Array, further: Further = NO_FURTHER) -> list[Array]:
        host.ignore_denormals()
        outputs: list[Array] = self._session.run(None, {self._name: images, **further})
        return outputs


def _error(model: ModelFile, error: Exception) -> ModelError:
    text = one_line(error, model.path)
    if any(mark in str(error) for mark in _UNSUPPORTED):
        return UnsupportedModelError(f"model {model.name}: {text}")
    return ModelError(f"model {model.name} cannot be read: {text}", "fetch or export it again")


def _image_input(session: Any, model: ModelFile) -> tuple[Any, bool]:
    """Return the input that takes the image, and whether it takes any number of images."""
    ports = {port.name: port for port in session.get_inputs()}
    port = ports[image_input(model, list(ports))]
    if port.type not in _TYPES:
        raise UnsupportedModelError(f"model {model.name} takes {port.type}, not images")
    check_type(model, np.dtype(_TYPES[port.type]))
    stated = [size if isinstance(size, int) else None for size in port.shape]
    if not stated:  # rank unknown
        return port, True
    check_shape(model, stated)
    if stated[0] not in (None, 1):
        raise UnsupportedModelError(
            f"model {model.name} takes {stated[0]} images at once, which ONNX Runtime cannot change",
            "export it with a batch of 1 or a dynamic batch",
        )
    return port, stated[0] is None


def open_unit(target: str, cache: Path | None = None) -> Unit | None:
    """Return the device that a target names; None: the CPU. Raises DeviceSpecError: it does not work here."""
    provider, _, index = target.partition(":")
    match provider:
        case "CPU":
            return None
        case "CUDA":
            from hams_agents.backends.cuda import CudaUnit

            return CudaUnit(int(index))
        case "TensorRT":
            from hams_agents.backends.tensorrt import TensorRtUnit

            return TensorRtUnit(int(index), cache)
    from hams_agents.backends import plugin_ep

    return plugin_ep.find(target)


def _capabilities(spec: DeviceSpec, unit: Unit | None) -> Capabilities:
    on_cpu = unit is None or unit.kind == "cpu"
    total = None if unit is None else unit.memory_mib()
    return Capabilities(
        backend="onnxruntime",
        unit=spec.unit,
        kind="cpu" if unit is None else unit.kind,
        name=host.cpu_name() if unit is None else unit.name,
        cores=spec.cores,
        memory_mib=host.memory_share_mib(spec.cores) if total is None else int(total[1]),
        precisions=("fp32" if unit is None else unit.precision,),
        runtime=f"onnxruntime {ort.__version__}" if unit is None else unit.runtime,
        lanes=lanes(spec.threads) if unit is None else request_lanes(unit.requests, spec.threads),
        threads=spec.threads if on_cpu else 0,
        limit=spec.limit if on_cpu else "",
        compile_apart=unit is not None and unit.apart,
    )
