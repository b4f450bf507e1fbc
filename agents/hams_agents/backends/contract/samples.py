"""Networks that the checks load: tiny ones in ONNX, written here, or the backend's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import ModelFile

SIDE = 8
SHAPE = (1, 3, SIDE, SIDE)
Expected = Callable[[NDArray[Any]], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Sample:
    """A network, and what it computes."""

    model: ModelFile
    expected: Expected | None = None
    """Returns its outputs for a batch; None: not known."""
    onnx: bool = False
    """Whether it was written here, so that others can be, too."""


def of_file(path: Path, shape: Sequence[int], dtype: str) -> Sample:
    """Return a network of the backend's own format, of which no outputs are known."""
    return Sample(ModelFile(path.stem, digest(path), path, tuple(shape), dtype))


def scaled(folder: Path) -> Sample:
    """Write a network with two outputs: twice the image, and the mean of each channel."""
    path = _write(
        folder / "scaled.onnx",
        [("Mul", ["image", "two"], ["twice"], {}), ("GlobalAveragePool", ["image"], ["mean"], {})],
        [("image", "float32", ("n", *SHAPE[1:]))],
        [("twice", "float32", ("n", *SHAPE[1:])), ("mean", "float32", ("n", 3, 1, 1))],
        {"two": np.array(2.0, np.float32)},
    )
    return Sample(ModelFile("scaled", digest(path), path, SHAPE), _scaled, onnx=True)


def _scaled(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"twice": images * 2, "mean": images.mean((2, 3), keepdims=True)}


def bytes_in(folder: Path) -> ModelFile:
    """Write a network that takes uint8 and gives float32."""
    path = _write(
        folder / "bytes.onnx",
        [("Cast", ["image"], ["numbers"], {"to": 1})],
        [("image", "uint8", ("n", *SHAPE[1:]))],
        [("numbers", "float32", ("n", *SHAPE[1:]))],
        {},
    )
    return ModelFile("bytes", digest(path), path, SHAPE, "u8")


def two_inputs(folder: Path) -> Path:
    """Write a network that multiplies the image by a further input, ``scale``: one number per image."""
    return _write(
        folder / "two_inputs.onnx",
        [("Mul", ["image", "scale"], ["product"], {})],
        [("image", "float32", ("n", *SHAPE[1:])), ("scale", "float32", ("n", 1, 1, 1))],
        [("product", "float32", ("n", *SHAPE[1:]))],
        {},
    )


def unknown_operator(folder: Path) -> ModelFile:
    """Write a sound file with an operator that no runtime has."""
    path = _write(
        folder / "unknown.onnx",
        [("NoSuchOperator", ["image"], ["y"], {"domain": "org.example"})],
        [("image", "float32", SHAPE)],
        [("y", "float32", SHAPE)],
        {},
    )
    return ModelFile("unknown", digest(path), path, SHAPE)


def heavy(folder: Path, layers: int = 12, side: int = 192) -> ModelFile:
    """Write a network of so many convolutions of 32 channels that its time is spent computing: 8 GFLOP."""
    random = np.random.default_rng(0)
    weights = {"w0": random.standard_normal((32, 3, 3, 3), np.float32) / 5}
    weights |= {f"w{i}": random.standard_normal((32, 32, 3, 3), np.float32) / 17 for i in range(1, layers)}
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
    for i in range(layers):
        nodes.append(("Conv", ["image" if i == 0 else f"x{i}", f"w{i}"], [f"x{i + 1}"], {"pads": [1] * 4}))
    shape = (1, 3, side, side)
    ports = [("image", "float32", shape)], [(f"x{layers}", "float32", (1, 32, side, side))]
    path = _write(folder / "heavy.onnx", nodes, *ports, weights)
    return ModelFile("heavy", digest(path), path, shape)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(
    path: Path,
    nodes: Sequence[tuple[str, list[str], list[str], dict[str, Any]]],
    inputs: Sequence[tuple[str, str, tuple[Any, ...]]],
    outputs: Sequence[tuple[str, str, tuple[Any, ...]]],
    constants: dict[str, NDArray[Any]],
) -> Path:
    from onnx import helper, numpy_helper

    def port(name: str, dtype: str, shape: tuple[Any, ...]) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    graph = helper.make_graph(
        [helper.make_node(kind, given, made, **more) for kind, given, made, more in nodes],
        path.stem,
        [port(*one) for one in inputs],
        [port(*one) for one in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("org.example", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path
