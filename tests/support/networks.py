"""Tiny real networks, built with the onnx helper, and the files around them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hams_agents.backends.base import ModelFile

FLOAT = TensorProto.FLOAT
SHAPE = (1, 3, 8, 8)
OMZ = Path(os.environ.get("HAMS_OMZ") or Path(__file__).parents[3] / "shared" / "omz")
"""Open Model Zoo files, beside the checkout unless HAMS_OMZ says otherwise."""

Size = int | str


def model_file(path: Path, shape: tuple[int, ...] = SHAPE, dtype: str = "f32") -> ModelFile:
    content = path.read_bytes() if path.exists() else b""
    return ModelFile(path.stem, hashlib.sha256(content).hexdigest(), path, shape, dtype)


def write(path: Path, graph: GraphProto, ir_version: int = 8, opset: int = 13) -> Path:
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)],
        ir_version=ir_version,
    )
    path.write_bytes(model.SerializeToString())
    return path


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """What a network says of `images`: its first output."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return said


def graph(
    nodes: list[NodeProto],
    batch: Size = "n",
    element: int = FLOAT,
    outputs: dict[str, list[Size] | None] | None = None,
    more_inputs: tuple[str, ...] = (),
    constants: dict[str, np.ndarray] | None = None,
    listed: bool = False,
    sides: tuple[Size, Size] = (8, 8),
) -> GraphProto:
    """A graph with image input ``x``; `listed` puts the constants among the inputs, as old exporters do."""
    inputs = [helper.make_tensor_value_info(n, element, [batch, 3, *sides]) for n in ("x", *more_inputs)]
    tensors = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    ports = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (outputs or {"y": None}).items()]
    return helper.make_graph(nodes, "tiny", inputs, ports, tensors)


def means(folder: Path, batch: Size = "n", name: str = "means", **options: object) -> Path:
    """y = mean over the picture, N×3×1×1."""
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    return write(folder / f"{name}.onnx", graph([node], batch, **options))  # type: ignore[arg-type]


def mixing(folder: Path) -> Path:
    """y = x + mean over the BATCH: takes any batch, and is wrong for all but one image."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    return write(folder / "mixing.onnx", graph(nodes))


def positives(folder: Path) -> Path:
    """y = indices of pixels above 0.5, K×4: as many rows as the image has such pixels."""
    nodes = [
        helper.make_node("Greater", ["x", "half"], ["b"]),
        helper.make_node("NonZero", ["b"], ["i"]),
        helper.make_node("Transpose", ["i"], ["t"], perm=[1, 0]),
        helper.make_node("Cast", ["t"], ["y"], to=FLOAT),
    ]
    return write(folder / "positives.onnx", graph(nodes, 1, constants={"half": np.float32([0.5])}))


def scaled(folder: Path, listed: bool) -> Path:
    """y = 2 x, the 2 an initializer."""
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    two = {"two": np.float32([2.0])}
    return write(folder / "scaled.onnx", graph([node], constants=two, listed=listed))


def images(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape[1:]), dtype=np.float32)
