"""Intel's OpenVINO: CPUs of any make, Intel GPUs and NPUs. Reads ONNX, OpenVINO IR, TFLite, TensorFlow and
Paddle."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13
from openvino.frontend import FrontEndManager, OpConversionFailure

from hams_agents.backends import genai, host
from hams_agents.backends.base import NO_FURTHER, Capabilities, Further, ModelFile, Network, TensorSpec
from hams_agents.backends.further import image_input
from hams_agents.backends.network import (
    Array,
    BatchNetwork,
    Dim,
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
from hams_agents.devices import DeviceSpec, lanes, request_lanes
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError
from hams_shared.runtime.openvino_errors import unknown_operators
from hams_shared.runtime.openvino_tflite import real_outputs, take_images
from hams_shared.runtime.process import resident_mib

log = logging.getLogger("hams.agent")

FRONTENDS = {".onnx": "onnx", ".tflite": "tflite", ".pb": "tf", ".pdmodel": "paddle"}
FORMATS = frozenset({*FRONTENDS, ".xml"})
_LEAST_GAIN = 0.2
"""Batches take a second compiled form, next to the one for single images: as much memory again, and time to load.

On CPUs it is not tried: with one thread, or lanes of one, batches of 8 saved at most 16 % per image, and cost some
networks 40 %.
"""
_SHARED_MIB = 32.0
"""The lanes of a CPU share the memory of a network whose file is so large; see :meth:`OpenVinoBackend._run_lanes`."""
_THROUGHPUT = {"PERFORMANCE_HINT": "THROUGHPUT", "ALLOW_AUTO_BATCHING": False}
"""Several inferences at a time. OpenVINO's own batches would wait for images that may not come."""
PRECISION_INFO = ("hams", "precision")
"""Where an IR made by the optimizer names the precision to compute in; without it: the device's own."""
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "i8"}
"""OpenVINO's names of precisions; those of its capabilities are ours in capitals."""


class OpenVinoBackend:
    """One OpenVINO device.

    Raises:
        DeviceSpecError: OpenVINO finds no such device here.
    """

    def __init__(self, spec: DeviceSpec) -> None:
        self._core = ov.Core()
        self._frontends = FrontEndManager()
        self._target = spec.target
        check_target(spec.target, self._core.available_devices, lambda one: _full_name(self._core, one))
        self._capabilities = _capabilities(self._core, spec)
        self._config = _config(spec, self._capabilities.precisions[0])
        self._lanes = self._capabilities.lanes

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        return self._capabilities

    def load(self, model: ModelFile) -> Network:
        """Read, check and compile `model`; see :meth:`hams_agents.backends.base.Backend.load`."""
        if model.path.suffix.lower() == genai.FORMAT:
            return genai.load(model, self._target, self._config)
        check_file(model, FORMATS, "OpenVINO")
        release_memory()
        memory, start = resident_mib(), time.perf_counter()
        graph = self._read(model)
        port = _image_input(graph, model)
        config = self._config_for(graph, model)
        element = port.get_element_type().to_dtype()
        names = [_name(output, index) for index, output in enumerate(graph.outputs)]
        one = Lanes(self._compile(graph, port, model, 1, config))
        at_a_time = min(model.lanes or self._lanes, self._lanes)
        every = one if at_a_time == 1 else Lanes(self._run_lanes(graph, port, model, config, at_a_time))
        compiled_ms = (time.perf_counter() - start) * 1e3

        def many() -> Run | None:
            if self._target == "CPU" or self._target.startswith("NPU"):  # which compiles for fixed sizes only
                return None
            return Lanes(self._compile(graph, port, model, -1, self._in_lanes(config), at_a_time))

        network = BatchNetwork(model, element, names, one, many, _LEAST_GAIN, every)
        network.load_ms = compiled_ms
        network.metadata = _metadata(graph)
        release_memory()
        network.memory_mib = max(resident_mib() - memory, file_mib(model.path))
        return network

    def close(self) -> None:
        """Release the device."""

    def _read(self, model: ModelFile) -> Any:
        """Read the file. The frontend of its format is asked first: Core.read_model tries all, and they print."""
        framework = FRONTENDS.get(model.path.suffix.lower())
        try:
            if framework is None:
                return self._core.read_model(model.path)
            frontend = self._frontends.load_by_framework(framework)
            graph = self._converted(frontend, model.path)
            if framework == "tflite":
                real_outputs(graph)
                take_images(graph, model.dtype)
            return graph
        except OpConversionFailure as error:
            why = unknown_operators(error) or one_line(error, model.path)
            raise UnsupportedModelError(f"model {model.name}: {why}") from error
        except Exception as error:
            raise ModelError(
                f"model {model.name} cannot be read: {one_line(error, model.path)}",
                "fetch or export it again",
            ) from error

    def _converted(self, frontend: Any, path: Path) -> Any:
        """Convert with the core, which leaves other threads Python's lock; heartbeats would wait for a frontend's."""
        try:
            if frontend.supported(str(path)):
                return self._core.read_model(path)
        except RuntimeError:
            log.debug("the core does not read %s: the frontend says why", path.name)
        return frontend.convert(frontend.load(str(path)))

    def _run_lanes(self, graph: Any, port: Any, model: ModelFile, config: dict[str, Any], at_a_time: int) -> list[Run]:
        """Return what runs single images in `at_a_time` lanes.

        A network compiled for one stream of one thread is computed by the thread that asks. Streams of a network
        compiled for several have threads of their own: two changes of thread per inference, in which a core idles
        (with the networks of Service F on two cores 5 to 10 % of the time). So each lane gets a compiled form of its
        own, unless that would take much memory; then the change costs little beside the inference.
        """
        if self._target != "CPU" or file_mib(model.path) >= _SHARED_MIB:
            return self._compile(graph, port, model, 1, self._in_lanes(config), at_a_time)
        part = {**config, "INFERENCE_NUM_THREADS": max(1, config["INFERENCE_NUM_THREADS"] // self._lanes)}
        return [run for _ in range(at_a_time) for run in self._compile(graph, port, model, 1, part)]

    def _in_lanes(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the settings for an image per lane: a CPU gets a stream for each, others divide themselves."""
        if self._lanes == 1:
            return config
        part = {"NUM_STREAMS" if self._target == "CPU" else "PERFORMANCE_HINT_NUM_REQUESTS": self._lanes}
        return {**config, **_THROUGHPUT, **part}

    def _config_for(self, graph: Any, model: ModelFile) -> dict[str, Any]:
        """Return the settings for a network; an IR of the optimizer names the precision of its other layers."""
        path = list(PRECISION_INFO)
        if not graph.has_rt_info(path):
            return self._config
        precision = str(graph.get_rt_info(path).value)
        if precision not in self._capabilities.precisions:
            raise UnsupportedModelError(
                f"model {model.name} is to be computed in {precision}; this device offers "
                f"{', '.join(self._capabilities.precisions)}"
            )
        return {**self._config, "INFERENCE_PRECISION_HINT": _HINTS[precision]}

    def _compile(
        self, graph: Any, port: Any, model: ModelFile, batch: int, config: dict[str, Any], requests: int = 1
    ) -> list[Run]:
        """Compile for `batch` images, -1 for any number; return what runs it, one per request. Reshapes `graph`."""
        shape = (batch, *model.input_shape[1:])
        try:
            names = _names(graph, model)
            further = {names.index(spec.name): _shape_of(spec, batch) for spec in model.further}
            graph.reshape({port: list(shape), **{graph.inputs[place]: dims for place, dims in further.items()}})
            compiled = self._core.compile_model(graph, self._target, config)
            image = next(place for place in range(len(names)) if place not in further)
            return [_Request(compiled.create_infer_request(), names, image) for _ in range(requests)]
        except Exception as error:
            raise UnsupportedModelError(
                f"model {model.name} cannot be compiled for {self._target} with input {shape_text(shape)}: "
                f"{one_line(error, model.path)}"
            ) from error


class _Request:
    """Runs one compiled network; owns its input and output memory.

    `names` are those of its inputs, and `image` is the place of the image's among them.
    """

    def __init__(self, request: Any, names: Sequence[str], image: int) -> None:
        self._request = request
        self._places = {name: place for place, name in enumerate(names)}
        self._image = image

    def __call__(self, images: Array, further: Further = NO_FURTHER) -> list[Array]:
        given = {self._places[name]: value for name, value in further.items()} if further else {}
        self._request.infer({self._image: images, **given}, share_inputs=True)
        return [np.array(tensor.data) for tensor in self._request.output_tensors]


def check_target(target: str, available: Sequence[str], name: Callable[[str], str]) -> None:
    """Check that `target` is one of the `available` devices, and only one; `name` gives the hardware's own name.

    Raises:
        DeviceSpecError: there is no such device, or several; the hint lists those that are.
    """
    several = [one for one in available if one.startswith(f"{target}.")]
    if len(several) > 1:
        listed = ", ".join(f"openvino:{one} is {name(one)}" for one in several)
        raise DeviceSpecError(f"openvino:{target} could be any of {len(several)} devices of this host", listed)
    if not {target, f"{target}.0", target.removesuffix(".0")} & set(available):
        raise DeviceSpecError(
            f"OpenVINO finds no {target} on this host", f"it finds {', '.join(available) or 'nothing'}"
        )


def _full_name(core: Any, target: str) -> str:
    try:
        return str(core.get_property(target, "FULL_DEVICE_NAME"))
    except Exception as error:  # OpenVINO has many kinds
        return f"not named ({one_line(error)})"


def with_driver(runtime: str, core: Any, target: str) -> str:
    """Return `runtime` with the version of the device's driver; of a CPU, or where none is reported, as it is."""
    names = {"GPU": ("GPU_DRIVER_VERSION",), "NPU": ("NPU_DRIVER_VERSION", "NPU_COMPILER_VERSION")}
    texts = [runtime]
    for name in names.get(target.partition(".")[0], ()):
        try:
            texts.append(f"{name.split('_')[1].lower()} {core.get_property(target, name)}")
        except Exception as error:  # OpenVINO has many kinds
            log.info("%s does not report its %s: %s", target, name, one_line(error))
    return ", ".join(texts)


def _capabilities(core: Any, spec: DeviceSpec) -> Capabilities:
    is_cpu = spec.target == "CPU"
    offered = [p for c in core.get_property(spec.target, "OPTIMIZATION_CAPABILITIES") if (p := c.lower()) in _HINTS]
    first = "fp32" if is_cpu or "fp16" not in offered else "fp16"
    return Capabilities(
        backend="openvino",
        unit=spec.unit,
        kind=spec.target.partition(".")[0].lower(),
        name=host.cpu_name() if is_cpu else str(core.get_property(spec.target, "FULL_DEVICE_NAME")),
        cores=spec.cores,
        memory_mib=host.memory_share_mib(spec.cores) if is_cpu else _device_memory_mib(core, spec.target),
        precisions=(first, *(p for p in offered if p != first)),
        runtime=with_driver(f"openvino {ov.__version__.partition('-')[0]}", core, spec.target),
        lanes=lanes(spec.threads) if is_cpu else request_lanes(_requests(core, spec.target), spec.threads),
        threads=spec.threads if is_cpu else 0,
        limit=spec.limit if is_cpu else "",
        compile_apart=spec.target.startswith("NPU"),
    )


def _requests(core: Any, target: str) -> int:
    """Return how many inferences at a time keep the device busy, as it reports for a network of one layer."""
    image = opset13.parameter([1, 3, 8, 8], np.float32)
    try:
        compiled = core.compile_model(ov.Model([opset13.relu(image)], [image]), target, _THROUGHPUT)
        return int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    except Exception as error:  # OpenVINO has many kinds
        log.warning("%s does not report how many inferences it computes at a time: one (%s)", target, one_line(error))
        return 1


def _device_memory_mib(core: Any, target: str) -> int:
    """Memory of a GPU or NPU; an integrated one reports the part of the host's memory it may use.

    Where the driver does not report it, half of the host's counts, and a warning is logged.
    """
    name = "GPU_DEVICE_TOTAL_MEM_SIZE" if target.startswith("GPU") else "NPU_DEVICE_TOTAL_MEM_SIZE"
    try:
        return int(core.get_property(target, name)) // 2**20
    except Exception as error:  # OpenVINO has many kinds
        mib = host.memory_mib() // 2
        log.warning(
            "%s does not report its memory: half of the host's counts, %d MiB (%s)", target, mib, one_line(error)
        )
        return mib


def _config(spec: DeviceSpec, precision: str) -> dict[str, Any]:
    """Settings for one image at a time and exact numbers.

    Left alone, OpenVINO computes in bf16 where the CPU can. Pinning is ours (see `devices.pin`), so it must
    not bind its threads to cores of its own choice. For denormal numbers see `host.ignore_denormals`.
    """
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
    if spec.target == "CPU":
        config |= {"INFERENCE_NUM_THREADS": spec.threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        config |= {"CPU_DENORMALS_OPTIMIZATION": True}
    return config


def _image_input(graph: Any, model: ModelFile) -> Any:
    """Return the input that takes the image, after checking that it takes the model's."""
    names = _names(graph, model)
    port = graph.inputs[names.index(image_input(model, names))]
    shape = port.get_partial_shape()
    if shape.rank.is_static:
        check_shape(model, [_dim(d) for d in shape])
    check_type(model, port.get_element_type().to_dtype())
    return port


def _names(graph: Any, model: ModelFile) -> list[str]:
    """Return the names of the inputs; of several names of one, that which the model's further inputs use."""
    known = {spec.name for spec in model.further}
    return [
        next((name for name in sorted(port.get_names()) if name in known), _name(port, index))
        for index, port in enumerate(graph.inputs)
    ]


def _shape_of(spec: TensorSpec, batch: int) -> list[int]:
    """Return the shape of a further input for `batch` images, -1: any number."""
    return [batch, *spec.shape[1:]] if spec.batched else list(spec.shape[1:])


def _metadata(graph: Any) -> dict[str, str]:
    """The metadata of the network file: OpenVINO keeps an ONNX file's under ``framework``."""
    if not graph.has_rt_info("framework"):
        return {}
    info = graph.get_rt_info("framework").value
    values = {key: getattr(entry, "value", entry) for key, entry in info.items()} if isinstance(info, dict) else {}
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _dim(dimension: Any) -> Dim:
    return int(dimension.get_length()) if dimension.is_static else None


def _name(port: Any, index: int) -> str:
    """A port's name: the first in alphabetical order when it has several, so that it is always the same one."""
    return min(port.get_names(), default=f"{index}")
