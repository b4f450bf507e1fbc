"""How the images of known families become tensors."""

from __future__ import annotations

from typing import Any

import pytest

from hams_agents.inspect.guess import checked, guess, image_of
from hams_agents.tasks.base import TensorInfo

Shape = tuple[int | None, ...]
NCHW: Shape = (1, 3, 224, 320)
NHWC: Shape = (1, 128, 128, 3)
ULTRALYTICS = {"names": "{0: 'a'}", "stride": "32"}
IMAGENET = {"mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]}
API = {
    "model_info:model_type": "YOLO",
    "model_info:reverse_input_channels": "YES",
    "model_info:scale_values": "255",
    "model_info:mean_values": "0 0 0",
    "model_info:resize_type": "fit_to_window_letterbox",
    "model_info:pad_value": "114",
}


@pytest.mark.parametrize(
    ("shape", "dtype", "format", "made_by", "metadata", "task", "params", "expected"),
    [
        (NCHW, "float32", "ONNX", "pytorch 2.9", ULTRALYTICS, "yolo", {}, {"scale": [255], "pad": 114}),
        (
            NCHW,
            "float32",
            "ONNX",
            "pytorch",
            {**ULTRALYTICS, "task": "classify"},
            "classification",
            {},
            {"scale": [255]},
        ),
        (NCHW, "float32", "ONNX", "pytorch 2.9", {}, "classification", {}, {"color": "rgb", **IMAGENET}),
        (NCHW, "float32", "ONNX", "pytorch 2.9", {}, "segmentation", {}, IMAGENET),
        (NCHW, "float32", "ONNX", "pytorch 2.9", {}, "landmarks", {"decode": "heatmaps"}, IMAGENET),
        (NCHW, "float32", "ONNX", "pytorch 2.9", {}, "detr", {"activation": "softmax"}, IMAGENET),
        (NCHW, "float32", "ONNX", "pytorch 2.9", {}, "detr", {}, {"scale": [255]}),
        (NCHW, "float32", "OpenVINO IR", "", {}, "detection_output", {}, {"color": "bgr"}),
        (NCHW, "float32", "OpenVINO IR", "", API, "yolo", {}, {"color": "rgb", "scale": [255], "pad": 114}),
        (
            NHWC,
            "float32",
            "TensorFlow Lite",
            "",
            {},
            "landmarks",
            {},
            {"layout": "nhwc", "color": "rgb", "scale": [255]},
        ),
        (NHWC, "float32", "TensorFlow Lite", "", {}, "ssd", {"anchors": {"style": "mediapipe"}}, {"mean": [127.5]}),
        (NHWC, "uint8", "TensorFlow Lite", "", {}, "classification", {}, {"layout": "nhwc", "dtype": "u8"}),
        ((1, 1, 64, 64), "float32", "ONNX", "pytorch 2", {}, "classification", {}, {"color": "gray"}),
        (NCHW, "float32", "ONNX", "", {"character": "a"}, "text", {}, {"color": "bgr", "mean": [127.5], "pad": 128}),
        (NCHW, "float32", "ONNX", "", {}, "retinaface", {}, {"color": "bgr", "mean": [104, 117, 123]}),
    ],
)
def test_families(
    shape: Shape,
    dtype: str,
    format: str,
    made_by: str,
    metadata: dict[str, str],
    task: str,
    params: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    found = guess(TensorInfo("x", shape, dtype), format, made_by, metadata, task, params)
    assert {**found.input, **expected} == found.input
    assert checked(found.input)
    assert bool(found.guessed) != bool(found.stated)
    if "dtype" in expected:
        assert "scale" not in found.input


@pytest.mark.parametrize(
    ("shape", "metadata", "task", "size"),
    [
        ((None, 3, None, None), {"imgsz": "[384, 640]"}, "yolo", [640, 384]),
        ((None, 3, None, None), {}, "classification", [224, 224]),
        ((None, 3, 48, None), {}, "text", [320, 48]),
        ((None, None, None, 3), {}, "yolo", [640, 640]),
    ],
)
def test_a_size_that_the_file_leaves_open(shape: Shape, metadata: dict[str, str], task: str, size: list[int]) -> None:
    found = guess(TensorInfo("x", shape, "float32"), "ONNX", "", metadata, task, {})
    assert found.input["size"] == size
    assert any("any size" in text for text in found.guessed)


def test_the_image_is_the_input_that_can_be_one() -> None:
    sizes = TensorInfo("orig_target_sizes", (1, 2), "int64")
    image = TensorInfo("images", (1, 3, 640, 640), "float32")
    assert image_of([sizes, image]) == image
    assert image_of([sizes]) is None
