"""Stands in for HailoRT's Python module: the calls that HAMS makes, with the checks that the real one has.

Written to hailort 5.2, ``hailo_platform/pyhailort/pyhailort.py``. It finds as many devices as `FAKE_HAILO` states.
"""

from __future__ import annotations

import os
import threading
from enum import Enum
from types import SimpleNamespace

import numpy as np
from vendor_network import Network

__version__ = "0.0.0"
MAGIC = b"\x01HEF"
NMS = "nms"
"""An output of this name holds classes×5×boxes, as HailoRT's suppression by class."""


class HailoRTException(Exception): ...  # noqa: N818 the vendor's name


class HailoRTTimeout(HailoRTException): ...


class HailoRTInvalidHEFException(HailoRTException): ...


class HailoRTHEFNotCompatibleWithDevice(HailoRTException): ...


class HailoRTInvalidOperationException(HailoRTException): ...


class FormatType(Enum):
    AUTO = 0
    UINT8 = 1
    UINT16 = 2
    FLOAT32 = 3


class FormatOrder(Enum):
    NHWC = 1
    HAILO_NMS_BY_CLASS = 22


TYPES = {FormatType.UINT8: np.uint8, FormatType.FLOAT32: np.float32}


class Device:
    @classmethod
    def scan(cls) -> list[str]:
        return [f"000{index}:01:00.0" for index in range(int(os.environ.get("FAKE_HAILO", "0")))]

    def __init__(self, device_id: str) -> None:
        board = SimpleNamespace(
            board_name="Hailo-8\0", product_name="HAILO-8 AI ACC M.2 M KEY\0\0", firmware_version="4.0"
        )
        self.control = SimpleNamespace(identify=lambda: board)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *args: object) -> None: ...


class Stream:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.is_nms = name, name == NMS
        classes, values, boxes = shape if self.is_nms else (0, 0, 0)
        self.shape = [classes * (1 + values * boxes)] if self.is_nms else list(shape[1:])
        self.format = SimpleNamespace(order=FormatOrder.HAILO_NMS_BY_CLASS if self.is_nms else FormatOrder.NHWC)
        self.type = FormatType.UINT8

    def set_format_type(self, type: FormatType) -> None:
        self.type = type


class Binding:
    def __init__(self, stream: Stream) -> None:
        self._stream, self._buffer = stream, None
        self.found: np.ndarray | None = None

    def set_buffer(self, buffer: np.ndarray) -> None:
        if not buffer.flags.c_contiguous:
            raise HailoRTException("Buffer must be C_CONTIGUOUS")
        if buffer.dtype != TYPES[self._stream.type] or list(buffer.shape) != self._stream.shape:
            raise HailoRTInvalidOperationException(f"buffer of {buffer.dtype} {buffer.shape}")
        self._buffer = buffer

    def get_buffer(self, tf_format: bool | None = False) -> np.ndarray | None:
        return self.found if self._stream.is_nms and tf_format else self._buffer


class Bindings:
    def __init__(self, model: InferModel) -> None:
        self._inputs = {stream.name: Binding(stream) for stream in model.inputs}
        self._outputs = {stream.name: Binding(stream) for stream in model.outputs}

    def input(self, name: str = "") -> Binding:
        return self._inputs[name or next(iter(self._inputs))]

    def output(self, name: str = "") -> Binding:
        return self._outputs[name or next(iter(self._outputs))]


class Job:
    def __init__(self, work: threading.Thread) -> None:
        self._work = work

    def wait(self, timeout_ms: int) -> None:
        self._work.join(timeout_ms / 1e3)
        if self._work.is_alive():
            raise HailoRTTimeout("HAILO_TIMEOUT")


class ConfiguredInferModel:
    def __init__(self, model: InferModel) -> None:
        self._model, self._open = model, True

    def create_bindings(
        self, input_buffers: dict[str, np.ndarray] | None = None, output_buffers: dict[str, np.ndarray] | None = None
    ) -> Bindings:
        bindings = Bindings(self._model)
        for name, buffer in (input_buffers or {}).items():
            bindings.input(name).set_buffer(buffer)
        for name, buffer in (output_buffers or {}).items():
            bindings.output(name).set_buffer(buffer)
        return bindings

    def wait_for_async_ready(self, timeout_ms: int = 1000, frames_count: int = 1) -> None:
        if not self._open:
            raise HailoRTInvalidOperationException("the model was shut down")

    def run_async(self, bindings: list[Bindings], callback: object = None) -> Job:
        work = threading.Thread(target=lambda: [self._run(one) for one in bindings])
        work.start()
        return Job(work)

    def _run(self, bindings: Bindings) -> None:
        image = bindings.input().get_buffer()
        assert image is not None
        for name, value in self._model.network.run(image[None]).items():
            output = bindings.output(name)
            if name == NMS:
                output.found = value
            else:
                buffer = output.get_buffer()
                assert buffer is not None
                buffer[...] = value[0]

    def shutdown(self) -> None:
        self._open = False


class InferModel:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.inputs = [Stream(name, shape) for name, shape in network.inputs.items()]
        self.outputs = [Stream(name, shape) for name, shape in network.outputs.items()]

    def input(self, name: str = "") -> Stream:
        return next(one for one in self.inputs if name in ("", one.name))

    def configure(self) -> ConfiguredInferModel:
        return ConfiguredInferModel(self)


class VDevice:
    def __init__(self, params: object = None, *, device_ids: list[str] | None = None) -> None:
        assert device_ids is None or set(device_ids) <= set(Device.scan())

    def create_infer_model(self, hef_source: str, name: str = "") -> InferModel:
        if hef_source.endswith("hailo15.hef"):
            raise HailoRTHEFNotCompatibleWithDevice("HEF format is not compatible with device")
        try:
            return InferModel(Network(hef_source, MAGIC))
        except ValueError as error:
            raise HailoRTInvalidHEFException(f"Invalid HEF: {error}") from error

    def release(self) -> None: ...
