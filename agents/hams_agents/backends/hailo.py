"""Hailo-8, -8L, -10H and -15 by HailoRT's Python API (``hailo_platform``, version 4.18 or newer). Reads ``.hef``.

NEVER RUN ON HARDWARE: written to the source of HailoRT 5.2 and tested with a stand-in for its Python module.

A file's suppression (NMS by class, as the networks of Hailo's model zoo have it) becomes one output as YOLO's
end-to-end exports have it: 300 rows of x0, y0, x1, y1 in pixels of the input, score and class, the best first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hams_agents.backends import host
from hams_agents.backends.base import Backend, BackendType, Capabilities, ModelFile
from hams_agents.backends.compiled import NEVER_RUN, WAIT_MS, Compiled, CompiledBackend, missing, npu
from hams_agents.backends.network import Array, one_line
from hams_agents.devices import MOST_REQUESTS, DeviceSpec, request_lanes
from hams_shared.errors import DeviceSpecError, UnsupportedModelError

ROWS = 300
"""Of the output that a file's suppression becomes."""
_HOW = "install HailoRT's driver and its Python package (hailort-…-linux_….whl, from hailo.ai)"
_OTHER_CHIP = ("HailoRTHEFNotCompatibleWithDevice",)


class Hailo(BackendType):
    """Hailo's NPUs, ``hailo:NPU`` or ``hailo:NPU:1``, in the order in which HailoRT finds them."""

    note = NEVER_RUN

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        """See :meth:`BackendType.parse`."""
        return npu("hailo", target)

    @staticmethod
    def targets() -> Sequence[str]:
        """See :meth:`BackendType.targets`."""
        if not find_spec("hailo_platform"):
            if list(Path("/dev").glob("hailo[0-9]*")):
                raise DeviceSpecError("there is a Hailo device, but no package hailo_platform", _HOW)
            return []
        from hailo_platform import Device

        return [f"NPU:{index}" for index in range(len(Device.scan()))]

    @staticmethod
    def open(spec: DeviceSpec, cache: Path | None = None) -> Backend:
        """See :meth:`BackendType.open`."""
        try:
            import hailo_platform as hailo
        except ImportError as error:
            raise missing(spec, "HailoRT", _HOW, error) from error
        found, index = hailo.Device.scan(), int(spec.target.partition(":")[2])
        if index >= len(found):
            listed = ", ".join(f"NPU:{i} ({name})" for i, name in enumerate(found)) or "no device"
            raise DeviceSpecError(f"device {spec}: HailoRT does not find it", f"it finds {listed}")
        name, firmware = _identity(hailo, found[index])
        device = hailo.VDevice(device_ids=[found[index]])
        able = Capabilities(
            backend="hailo",
            unit=spec.unit,
            kind="npu",
            name=name,
            cores=spec.cores,
            memory_mib=host.memory_share_mib(spec.cores),
            precisions=("int8",),
            runtime=f"hailort {hailo.__version__}{firmware}",
            lanes=request_lanes(MOST_REQUESTS, spec.threads),
        )
        return CompiledBackend(able, ".hef", "HailoRT", lambda m: _read(hailo, device, m, able.lanes), device.release)


def _identity(hailo: Any, device: str) -> tuple[str, str]:
    """Return the board's name and its firmware's version, as text."""
    try:
        with hailo.Device(device) as opened:
            board = opened.control.identify()
            name = board.product_name.rstrip("\0") or board.board_name.rstrip("\0")
            return name or f"Hailo {device}", f", firmware {board.firmware_version}"
    except hailo.HailoRTException as error:  # another process has the device
        raise DeviceSpecError(
            f"Hailo device {device} cannot be opened: {one_line(error)}", "who else uses it?"
        ) from error


def _read(hailo: Any, device: Any, model: ModelFile, lanes: int) -> Compiled:
    """Configure the network for images of the node's own type; HailoRT quantises and dequantises."""
    try:
        network = device.create_infer_model(str(model.path))
        if len(network.inputs) != 1:
            raise UnsupportedModelError(f"model {model.name} has {len(network.inputs)} inputs, not one image")
        image = network.input()
        image.set_format_type(hailo.FormatType.UINT8 if model.dtype == "u8" else hailo.FormatType.FLOAT32)
        for output in network.outputs:
            _check_output(model, output)
            output.set_format_type(hailo.FormatType.FLOAT32)
        configured = network.configure()
    except hailo.HailoRTException as error:
        if type(error).__name__ in _OTHER_CHIP:
            raise UnsupportedModelError(
                f"model {model.name} is compiled for another chip: {one_line(error)}"
            ) from error
        raise
    shape, lock = tuple(image.shape), threading.Lock()
    return Compiled(
        element=np.uint8 if model.dtype == "u8" else np.float32,
        shape=shape,
        names=[output.name for output in network.outputs],
        runs=[_lane(configured, network, shape, lock) for _ in range(min(model.lanes or lanes, lanes))],
        release=configured.shutdown,
    )


def _check_output(model: ModelFile, output: Any) -> None:
    order = str(output.format.order).rpartition(".")[2]
    if output.is_nms and order not in ("HAILO_NMS", "HAILO_NMS_BY_CLASS"):
        raise UnsupportedModelError(
            f"model {model.name}: output {output.name} is {order}",
            "compile it without suppression, or with NMS by class",
        )


def _lane(configured: Any, network: Any, shape: tuple[int, ...], lock: Any) -> Callable[[Array], list[Array]]:
    outputs = [(output.name, tuple(output.shape), output.is_nms) for output in network.outputs]

    def run(images: Array) -> list[Array]:
        buffers = {name: np.empty(size, np.float32) for name, size, _ in outputs}
        bindings = configured.create_bindings(output_buffers=buffers)
        bindings.input().set_buffer(images[0])
        with lock:  # lanes queue their frames one after the other, and wait for them together
            configured.wait_for_async_ready(timeout_ms=WAIT_MS)
            job = configured.run_async([bindings])
        job.wait(WAIT_MS)
        return [
            end_to_end(bindings.output(name).get_buffer(tf_format=True), shape)[None] if is_nms else buffers[name][None]
            for name, _, is_nms in outputs
        ]

    return run


def end_to_end(found: Array, shape: tuple[int, ...]) -> Array:
    """Turn HailoRT's detections into `ROWS`×6.

    They are classes×5×boxes of y0, x0, y1, x1 as shares of the input, H×W×C, and score; unused ones have score 0.
    """
    classes, _, boxes = found.shape
    y0, x0, y1, x1, score = found.transpose(1, 0, 2).reshape(5, -1)
    high, wide = shape[:2]
    label = np.repeat(np.arange(classes, dtype=np.float32), boxes)
    rows = np.stack([x0 * wide, y0 * high, x1 * wide, y1 * high, score, label], axis=1)
    best = rows[np.argsort(-score, kind="stable")][:ROWS]
    padded = np.zeros((ROWS, 6), np.float32)
    padded[: len(best)] = np.where(best[:, 4:5] > 0, best, 0)
    return padded
