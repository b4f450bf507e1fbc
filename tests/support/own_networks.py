"""Networks as people bring them, in the layouts of their exporters, with answers that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 64
STRIDES = (8, 16, 32)
ULTRALYTICS = {
    "names": "{0: 'dark', 1: 'bright'}",
    "stride": "32",
    "task": "detect",
    "imgsz": f"[{SIZE}, {SIZE}]",
    "author": "Ultralytics",
    "description": "Ultralytics YOLO11n model",
}

Ports = list[tuple[str, list[int | str]]]


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: Ports,
    outputs: Ports,
    metadata: dict[str, str] | None = None,
) -> Path:
    ins, outs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
        for ports in (inputs, outputs)
    )
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "main_graph", ins, outs, constants)
    model = helper.make_model(
        graph, producer_name="pytorch", producer_version="2.9.0", opset_imports=[helper.make_opsetid("", 19)]
    )
    model.ir_version = 9
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def detector(path: Path, metadata: dict[str, str] | None = None) -> Path:
    """YOLOv8's layout, 1×3×64×64 to 1×6×84: each cell of 8, 16 and 32 pixels is dark or bright, by its mean in 0..1."""
    nodes, parts, boxes = [], [], []
    for stride in STRIDES:
        nodes += [
            helper.make_node(
                "AveragePool", ["images"], [f"p{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("ReduceMean", [f"p{stride}", "axis"], [f"m{stride}"], keepdims=1),
            helper.make_node("Reshape", [f"m{stride}", "flat"], [f"f{stride}"]),
        ]
        parts.append(f"f{stride}")
        y, x = np.mgrid[: SIZE // stride, : SIZE // stride]
        middle = (np.stack([x, y]).reshape(2, -1) + 0.5) * stride
        boxes.append(np.concatenate([middle, np.full_like(middle, stride)]))
    nodes += [
        helper.make_node("Concat", parts, ["mean"], axis=2),
        helper.make_node("Mul", ["mean", "steep"], ["m"]),
        helper.make_node("Add", ["m", "low"], ["bright"]),
        helper.make_node("Sub", ["dark_at", "m"], ["dark"]),
        helper.make_node("Concat", ["dark", "bright"], ["logits"], axis=1),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    weights = {
        "axis": np.array([1]),
        "flat": np.array([1, 1, -1]),
        "boxes": np.concatenate(boxes, 1)[None].astype(np.float32),
        "steep": np.float32(20),
        "low": np.float32(-15),
        "dark_at": np.float32(-5),
    }
    known = ULTRALYTICS if metadata is None else metadata
    return _write(path, nodes, weights, [("images", [1, 3, SIZE, SIZE])], [("output0", [1, 6, 84])], known)


def classifier(path: Path, classes: int = 3) -> Path:
    """Logits of any batch of 3×32×32: class i is the brightest channel i."""
    matrix = np.eye(3, classes, dtype=np.float32) * 5
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["logits"]),
    ]
    return _write(path, nodes, {"w": matrix}, [("input", ["batch", 3, 32, 32])], [("logits", ["batch", classes])])


def embedder(path: Path) -> Path:
    """Vectors of 128 numbers of length 1, of any batch of 3×32×32."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("AveragePool", ["input"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["e"]),
        helper.make_node("LpNormalization", ["e"], ["embedding"], axis=1),
    ]
    weights = {"w": random.normal(size=(48, 128)).astype(np.float32)}
    return _write(path, nodes, weights, [("input", ["batch", 3, 32, 32])], [("embedding", ["batch", 128])])


def lister(path: Path) -> Path:
    """An IR with SSD's last layer's list, 1×1×3×7: always class 2 with 0.9 in the middle, and a weak class 1."""
    import openvino as ov
    from openvino import opset13 as ops

    listed = np.array(
        [[0, 2, 0.9, 0.25, 0.25, 0.75, 0.75], [0, 1, 0.2, 0, 0, 1, 1], [-1, 0, 0, 0, 0, 0, 0]], np.float32
    )
    image = ops.parameter([1, 3, SIZE, SIZE], np.float32, name="image")
    nothing = ops.multiply(ops.reduce_mean(image, np.array([1, 2, 3]), keep_dims=True), np.float32(1e-9))
    found = ops.add(ops.constant(listed[None, None]), nothing)
    found.output(0).set_names({"detection_out"})
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.Model([found], [image]), path, compress_to_fp16=False)
    return path


def sized_detector(path: Path) -> Path:
    """RT-DETR's layout as deployed: images and orig_target_sizes (int64) to labels, boxes in those sizes, scores."""
    flow, whole = TensorProto.FLOAT, TensorProto.INT64
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Cast", ["orig_target_sizes"], ["wh"], to=flow),
        helper.make_node("Concat", ["wh", "wh"], ["whwh"], axis=1),
        helper.make_node("Unsqueeze", ["whwh", "middle"], ["sides"]),
        helper.make_node("Mul", ["parts", "sides"], ["scaled"]),
        helper.make_node("Add", ["scaled", "nothing"], ["boxes"]),
        helper.make_node("Identity", ["numbers"], ["labels"]),
        helper.make_node("Add", ["chances", "nothing"], ["scores"]),
    ]
    weights = {
        "zero": np.float32(0),
        "middle": np.array([1], np.int64),
        "parts": np.array([[[0.1, 0.1, 0.5, 0.5], [0.2, 0.3, 0.9, 0.9], [0, 0, 0.1, 0.1]]], np.float32),
        "numbers": np.array([[0, 1, 2]], np.int64),
        "chances": np.array([[0.9, 0.8, 0.1]], np.float32),
    }
    ports = [("images", flow, ["N", 3, SIZE, SIZE]), ("orig_target_sizes", whole, ["N", 2])]
    outputs = [("labels", whole, ["N", 3]), ("boxes", flow, ["N", 3, 4]), ("scores", flow, ["N", 3])]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    ins, outs = ([helper.make_tensor_value_info(*port) for port in some] for some in (ports, outputs))
    graph = helper.make_graph(nodes, "main_graph", ins, outs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
