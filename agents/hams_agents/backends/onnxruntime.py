"""ONNX Runtime: any CPU, and NVIDIA GPUs through CUDA. Reads ONNX."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from hams_agents.backends import cuda, host
from hams_agents.backends.base import Capabilities, ModelFile
from hams_agents.backends.network import (
    Array,
    BatchNetwork,
    Lanes,
    Run,
    check_file,
    check_shape,
    check_type,
    file_mib,
    one_input,
    one_line,
    release_memory,
)
from hams_agents.devices import DeviceSpec, lanes, request_lanes
from hams_shared.errors import ModelError, UnsupportedModelError
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


class OnnxRuntimeBackend:
    """The CPU or one NVIDIA GPU.

    Raises:
        DeviceSpecError: CUDA was asked for and does not work here.
    """

    def __init__(self, spec: DeviceSpec) -> None:
        ort.set_default_logger_severity(_QUIET)
        self._gpu = int(spec.target.partition(":")[2]) if spec.target.startswith("CUDA") else None
        if self._gpu is not None:
            cuda.check(self._gpu)
        self._threads = spec.threads
        self._capabilities = _capabilities(spec, self._gpu)

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
        session = self._open(model, self._threads)
        port, any_batch = _image_input(session, model)
        names = [output.name for output in session.get_outputs()]
        run = _Session(session, port.name)
        lanes = self._capabilities.lanes
        at_a_time = min(model.lanes or lanes, lanes)
        one, every = Lanes([run]), Lanes([run] * at_a_time)  # a session runs in all threads that call it
        if at_a_time == 1:
            every = one
        elif self._gpu is None:  # besides them, it computes in threads of its own
            every = Lanes([_Session(self._open(model, self._threads // lanes), port.name)] * at_a_time)
        compiled_ms = (time.perf_counter() - start) * 1e3

        def many() -> Run | None:
            if not any_batch or (self._gpu is None and lanes > 1):
                return None
            return run if self._gpu is None else _BySize(lambda: _Session(self._open(model, self._threads), port.name))

        least_gain = _LEAST_GAIN if self._gpu is None else _LEAST_GAIN_BY_SIZE
        network = BatchNetwork(model, _TYPES[port.type], names, one, many, least_gain, every)
        network.load_ms = compiled_ms
        network.metadata = dict(session.get_modelmeta().custom_metadata_map)
        release_memory()
        network.memory_mib = max(used() - memory, file_mib(model.path))
        return network

    def close(self) -> None:
        """Release the device."""

    def _used(self) -> Callable[[], float]:
        gpu = self._gpu
        if gpu is None or cuda.memory_mib(gpu) is None:
            return resident_mib
        return lambda: (cuda.memory_mib(gpu) or (0.0, 0.0))[0]

    def _open(self, model: ModelFile, threads: int) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A resident session's threads must not spin while another network runs: that costs it half of the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # For the session's own threads; those that ask for an inference take part in it.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        providers: list[Any] = ["CPUExecutionProvider"] if self._gpu is None else [cuda.provider(self._gpu)]
        try:
            session = ort.InferenceSession(str(model.path), options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise _error(model, error) from error
        if self._gpu is not None and cuda.PROVIDER not in session.get_providers():
            raise ModelError(f"model {model.name}: CUDA is gone, ONNX Runtime would use the CPU", "restart the agent")
        return session


class _Session:
    """Runs one session."""

    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        self._name = name

    def __call__(self, images: Array) -> list[Array]:
        host.ignore_denormals()
        outputs: list[Array] = self._session.run(None, {self._name: images})
        return outputs


class _BySize:
    """Runs batches, those of each size in a session of its own.

    On CUDA a session whose images are more or fewer than the time before plans all of its convolutions anew, each
    time: seconds for a detector, in which it would count as hung.
    """

    def __init__(self, new: Callable[[], Run]) -> None:
        self._new = new
        self._runs: dict[int, Run] = {}
        self._lock = threading.Lock()
        """Lanes that meet a new size at the same time open one session."""

    def __call__(self, images: Array) -> list[Array]:
        with self._lock:
            run = self._runs.get(len(images))
            if run is None:
                run = self._runs[len(images)] = self._new()
        return run(images)


def _error(model: ModelFile, error: Exception) -> ModelError:
    text = one_line(error, model.path)
    if any(mark in str(error) for mark in _UNSUPPORTED):
        return UnsupportedModelError(f"model {model.name}: {text}")
    return ModelError(f"model {model.name} cannot be read: {text}", "fetch or export it again")


def _image_input(session: Any, model: ModelFile) -> tuple[Any, bool]:
    """Return the one input that has no initializer, and whether it takes any number of images."""
    ports = session.get_inputs()
    one_input(model, [port.name for port in ports])
    port = ports[0]
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


def _capabilities(spec: DeviceSpec, gpu: int | None) -> Capabilities:
    is_cpu = gpu is None
    total = None if gpu is None else cuda.memory_mib(gpu)
    return Capabilities(
        backend="onnxruntime",
        unit=spec.unit,
        kind="cpu" if is_cpu else "gpu",
        name=host.cpu_name() if gpu is None else cuda.name(gpu),
        cores=spec.cores,
        memory_mib=host.memory_share_mib(spec.cores) if total is None else int(total[1]),
        precisions=("fp32",),
        runtime=f"onnxruntime {ort.__version__}",
        lanes=lanes(spec.threads) if is_cpu else request_lanes(cuda.REQUESTS, spec.threads),
        threads=spec.threads if is_cpu else 0,
        limit=spec.limit if is_cpu else "",
    )
