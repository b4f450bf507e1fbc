"""Google's LiteRT, formerly TensorFlow Lite, on CPUs (x86-64, ARM64) with XNNPACK. Reads TFLite.

Quantised inputs and outputs: see :class:`Stored`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hams_agents.backends import host
from hams_agents.backends.base import NO_FURTHER, BackendType, Capabilities, Further, ModelFile, TensorSpec
from hams_agents.backends.further import ANY, image_input
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
    shape_text,
)
from hams_agents.devices import DeviceSpec, lanes
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError
from hams_shared.runtime.process import resident_mib

FORMATS = frozenset({".tflite"})
_LEAST_GAIN = 0.2
"""Each size of batch takes an interpreter of its own: memory, and time to load."""
_UNSUPPORTED = ("Didn't find op", "Op builtin_code out of range")
"""Marks of an error that means: a sound file, but not for this runtime."""
_CUSTOM = re.compile(r"unresolved custom op: (\S+)\.\s")
Port = Mapping[str, Any]
"""An input or output, as the interpreter describes it."""


class LiteRt(BackendType):
    """CPUs."""

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`."""
        if target.upper() != "CPU":
            raise DeviceSpecError(f"litert has no unit {target.upper()!r}", "use CPU")
        return "CPU", "cpu"

    @staticmethod
    def targets() -> list[str]:
        """See :meth:`BackendType.targets`."""
        return ["CPU"] if find_spec("ai_edge_litert") else []

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> LiteRtBackend:
        """See :meth:`BackendType.open`."""
        if not find_spec("ai_edge_litert"):
            raise DeviceSpecError(f"device {spec}: LiteRT is not installed", 'pip install "hams[litert]"')
        return LiteRtBackend(spec)


class LiteRtBackend:
    """The CPU."""

    def __init__(self, spec: DeviceSpec) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter
        self._threads = spec.threads
        self._capabilities = Capabilities(
            backend="litert",
            unit=spec.unit,
            kind="cpu",
            name=host.cpu_name(),
            cores=spec.cores,
            memory_mib=host.memory_share_mib(spec.cores),
            precisions=("fp32",),
            runtime=f"litert {version('ai-edge-litert')}",
            lanes=lanes(spec.threads),
            threads=spec.threads,
            limit=spec.limit,
            compile_apart=True,  # a damaged operator (of suppression, say) may end the process that prepares it
        )

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        return self._capabilities

    def load(self, model: ModelFile) -> BatchNetwork:
        """Read, check and prepare `model`; see :meth:`hams_agents.backends.base.Backend.load`."""
        check_file(model, FORMATS, "LiteRT")
        release_memory()
        memory, start = resident_mib(), time.perf_counter()
        threads, every_lane = self._threads, self._capabilities.lanes
        at_a_time = min(model.lanes or every_lane, every_lane)
        first = self._open(model, threads)
        one = every = Lanes([first])
        if at_a_time > 1:
            every = Lanes([self._open(model, threads // every_lane) for _ in range(at_a_time)])
        compiled_ms = (time.perf_counter() - start) * 1e3

        def many() -> Run | None:
            return BySize(lambda size: Lanes([self._open(model, threads, size)])) if every_lane == 1 else None

        network = BatchNetwork(model, first.element, first.names, one, many, _LEAST_GAIN, every)
        network.load_ms = compiled_ms
        release_memory()
        network.memory_mib = max(resident_mib() - memory, file_mib(model.path))
        return network

    def close(self) -> None:
        """Release the device."""

    def _open(self, model: ModelFile, threads: int, batch: int = 1) -> _Prepared:
        """Prepare the network for `batch` images; one interpreter runs in one thread at a time."""
        try:
            interpreter = self._interpreter(model_path=str(model.path), num_threads=threads)
        except Exception as error:  # ValueError, RuntimeError
            raise _error(model, error) from error
        ports = {port["name"]: port for port in interpreter.get_input_details()}
        image = ports[image_input(model, list(ports))]
        _check_image(model, image)
        shape = (batch, *model.input_shape[1:])
        try:
            _resize(interpreter, image, shape)
            for spec in model.further:
                _resize(interpreter, ports[spec.name], _sizes(spec, ports[spec.name], batch))
            interpreter.allocate_tensors()
        except Exception as error:
            if names := _unknown(interpreter, error):
                raise UnsupportedModelError(f"model {model.name}: LiteRT has no operator {names}") from error
            raise UnsupportedModelError(
                f"model {model.name} cannot be prepared for input {shape_text(shape)}: {one_line(error, model.path)}"
            ) from error
        return _Prepared(interpreter, image, {spec.name: ports[spec.name] for spec in model.further}, model.dtype)


class _Prepared:
    """Runs one interpreter.

    `names` are those of its outputs, `element` is the type in which it takes images.
    """

    def __init__(self, interpreter: Any, image: Port, further: Mapping[str, Port], dtype: str) -> None:
        self._interpreter = interpreter
        self._image = image["index"]
        self._further = {name: (port["index"], port["dtype"], Stored.of(port)) for name, port in further.items()}
        self.element, self._given = _taken(image["dtype"], Stored.of(image), dtype)
        outputs = interpreter.get_output_details()
        self.names = [output["name"] for output in outputs]
        self._outputs = [(output["index"], Stored.of(output)) for output in outputs]

    def __call__(self, images: Array, further: Further = NO_FURTHER) -> list[Array]:
        host.ignore_denormals()
        self._interpreter.set_tensor(self._image, self._given(images))
        for name, value in further.items():
            index, dtype, stored = self._further[name]
            self._interpreter.set_tensor(index, value.astype(dtype) if stored is None else stored.quantised(value))
        self._interpreter.invoke()
        found = [(self._interpreter.get_tensor(index), stored) for index, stored in self._outputs]
        return [values if stored is None else stored.real(values) for values, stored in found]


@dataclass(frozen=True)
class Stored:
    """How a quantised tensor stores numbers: real = scale × (stored − zero point), by TFLite's specification.

    Outputs are always real numbers. As for images: a node whose input has ``dtype: u8`` gives the bytes as they are
    stored (less 128 where the network takes int8); one that gives fp32 gives real numbers, which are quantised.
    """

    dtype: np.dtype[Any]
    scale: Array
    zero: Array

    @classmethod
    def of(cls, tensor: Port) -> Stored | None:
        """Return it for a tensor as the interpreter describes it; None: its numbers are not quantised."""
        dtype, stated = np.dtype(tensor["dtype"]), tensor["quantization_parameters"]
        scales = np.asarray(stated["scales"], np.float32)
        if dtype.name not in ("uint8", "int8", "int16") or not scales.any():
            return None
        shape = [1] * len(tensor["shape"])
        if len(scales) > 1:  # one per channel
            shape[stated["quantized_dimension"]] = len(scales)
        zero = np.zeros_like(scales) + np.asarray(stated["zero_points"], np.float32)
        return cls(dtype, scales.reshape(shape), zero.reshape(shape))

    def real(self, values: Array) -> Array:
        """Return the real numbers, fp32."""
        return np.asarray((values.astype(np.float32) - self.zero) * self.scale, np.float32)

    def quantised(self, values: Array) -> Array:
        """Return real numbers as they are stored: rounded, and clipped to the type's range."""
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(values / self.scale + self.zero), limits.min, limits.max).astype(self.dtype)


def _taken(dtype: DTypeLike, stored: Stored | None, images: str) -> tuple[DTypeLike, Callable[[Array], Array]]:
    """Return the type that images are cast to, and what turns those into the network's own numbers."""
    if stored is None:
        return dtype, lambda given: given
    if images != "u8":
        return np.float32, stored.quantised
    if stored.dtype == np.int8:
        return np.uint8, lambda given: (given ^ 0x80).view(np.int8)
    return stored.dtype, lambda given: given


def _check_image(model: ModelFile, port: Port) -> None:
    free = port["shape_signature"] if len(port["shape_signature"]) else port["shape"]
    check_shape(model, [int(size) if size >= 0 else None for size in free])
    check_type(model, "float32" if Stored.of(port) else port["dtype"])


def _sizes(spec: TensorSpec, port: Port, batch: int) -> tuple[int, ...]:
    """Return the shape of a further input for `batch` images; a size that the group leaves open is the file's."""
    wanted = (batch, *spec.shape[1:]) if spec.batched else spec.shape[1:]
    return tuple(int(s) if w == ANY else w for w, s in zip(wanted, port["shape"], strict=True))


def _resize(interpreter: Any, port: Port, shape: tuple[int, ...]) -> None:
    if tuple(port["shape"]) != shape:
        interpreter.resize_tensor_input(port["index"], shape)


def _unknown(interpreter: Any, error: Exception) -> str:
    """Name the operators that LiteRT does not have; empty: `error` is about something else."""
    if found := _CUSTOM.search(str(error)):
        return found[1]
    if "Select TensorFlow op" in str(error):
        names = sorted({op["op_name"] for op in interpreter._get_ops_details() if op["op_name"].startswith("Flex")})
        return f"{', '.join(names)} (TensorFlow's own: export it for built-in operators only)"
    return ""


def _error(model: ModelFile, error: Exception) -> ModelError:
    text = one_line(error, model.path)
    if any(mark in text for mark in _UNSUPPORTED):
        return UnsupportedModelError(f"model {model.name}: {text}")
    return ModelError(f"model {model.name} cannot be read: {text}", "fetch or export it again")
