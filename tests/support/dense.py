"""Networks with an answer per pixel, in the layouts of real exports, and plain loops that decode them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


def network(
    folder: Path,
    nodes: list[NodeProto],
    output: tuple[str, int, list[int | str]],
    constants: dict[str, Array],
    size: tuple[int, int],
    name: str = "dense",
) -> Path:
    """Write a network with input ``images`` 1×3×H×W, `size` is W and H, and the `output` (name, element, shape)."""
    takes = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size[1], size[0]])
    gives = helper.make_tensor_value_info(*output)
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, [takes], [gives], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def segmenter(folder: Path, colors: list[tuple[int, int, int]], size: tuple[int, int], form: str = "logits") -> Path:
    """A network whose class is the nearest of `colors` (in the input's channel order), at a quarter of the input.

    `form`: logits N×C×h×w as SegFormer's; nhwc; argmax: int64 N×h×w; or upsampled: logits N×C×H×W as DeepLab's.
    """
    points = np.array(colors, np.float32)
    weights = (2 * points)[:, :, None, None]  # -|x - p|² without |x|², which all classes share
    bias = -np.square(points).sum(axis=1)
    nodes = [
        helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["small", "w", "b"], ["scores"]),
    ]
    constants = {"w": weights / 1000, "b": bias / 1000}
    h, w, c = size[1] // 4, size[0] // 4, len(colors)
    if form == "logits":
        nodes[-1].output[0] = "logits"
        return network(folder, nodes, ("logits", TensorProto.FLOAT, [1, c, h, w]), constants, size, form)
    if form == "nhwc":
        nodes.append(helper.make_node("Transpose", ["scores"], ["logits"], perm=[0, 2, 3, 1]))
        return network(folder, nodes, ("logits", TensorProto.FLOAT, [1, h, w, c]), constants, size, form)
    if form == "upsampled":
        constants["scales"] = np.array([1, 1, 4, 4], np.float32)
        nodes.append(helper.make_node("Resize", ["scores", "", "scales"], ["out"], mode="nearest"))
        return network(folder, nodes, ("out", TensorProto.FLOAT, [1, c, size[1], size[0]]), constants, size, form)
    nodes.append(helper.make_node("ArgMax", ["scores"], ["classes"], axis=1, keepdims=0))
    return network(folder, nodes, ("classes", TensorProto.INT64, [1, h, w]), constants, size, form)


def depth(folder: Path, size: tuple[int, int], channel: bool = False) -> Path:
    """A network whose depth is the mean of the three channels: N×H×W as MiDaS, or N×1×H×W with `channel`."""
    shape: list[int | str] = [1, 1, size[1], size[0]] if channel else [1, size[1], size[0]]
    node = helper.make_node("ReduceMean", ["images"], ["depth"], axes=[1], keepdims=int(channel))
    return network(folder, [node], ("depth", TensorProto.FLOAT, shape), {}, size)


def png(data: bytes) -> Array:
    """The pixels of a PNG, as they are."""
    pixels: Array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels


def shares(image: Array, colors: list[tuple[int, int, int]], labels: list[str]) -> dict[str, float]:
    """The part of an image (H×W×3, in the order of `colors`) that is nearest to each color; one pixel at a time."""
    counts = dict.fromkeys(labels, 0)
    for row in image.tolist():
        for pixel in row:
            distances = [sum((a - b) ** 2 for a, b in zip(pixel, color, strict=True)) for color in colors]
            counts[labels[distances.index(min(distances))]] += 1
    total = image.shape[0] * image.shape[1]
    return {label: count / total for label, count in counts.items() if count}


def textness(folder: Path, size: tuple[int, int]) -> Path:
    """A network as PaddleOCR exports its detectors: probability N×1×H×W, here the brightness of the image."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Div", ["mean", "white"], ["sigmoid_0.tmp_0"]),
    ]
    shape: list[int | str] = ["n", 1, size[1], size[0]]
    white = {"white": np.array(255, np.float32)}
    return network(folder, nodes, ("sigmoid_0.tmp_0", TensorProto.FLOAT, shape), white, size, "textness")


def encoder(folder: Path, weights: Array, size: tuple[int, int] = (8, 8)) -> Path:
    """An image encoder as CLIP's exports have it: ``image_embeds`` N×D, the mean color times `weights` (3×D)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["color"]),
        helper.make_node("MatMul", ["color", "w"], ["image_embeds"]),
    ]
    shape: list[int | str] = [1, weights.shape[1]]
    return network(folder, nodes, ("image_embeds", TensorProto.FLOAT, shape), {"w": weights}, size, "encoder")
