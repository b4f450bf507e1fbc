"""Networks that make their image smaller first: the same as the whole network on an image made smaller before."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from onnx import helper

from hams_services.optimizer.shrink.make import make
from hams_shared.errors import UnsupportedModelError
from support.hostile import convolutions
from support.networks import graph, write


def run(path: Path, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: image})[0]
    return found


def shrunk(file: Path, folder: Path, share: float, along: str = "both", sides: tuple[int, int] = (48, 64)) -> Path:
    done = make(str(file), str(folder / f"made{share}"), share, (1, 3, *sides), "nchw", along)
    return Path(done["files"][0])


@pytest.mark.parametrize(
    ("share", "along", "size"),
    [(0.25, "both", (32, 24)), (0.5, "width", (32, 48)), (0.99, "width", (56, 48)), (0.01, "both", (16, 16))],
)
def test_it_says_what_the_network_says_of_a_smaller_image(
    tmp_path: Path, share: float, along: str, size: tuple[int, int]
) -> None:
    file = convolutions(tmp_path, size=64)
    done = make(str(file), str(tmp_path / "made"), share, (1, 3, 48, 64), "nchw", along)
    assert tuple(done["size"]) == size
    path = Path(done["files"][0])
    image = np.random.default_rng(0).normal(size=(2, 3, 48, 64)).astype(np.float32)
    small = np.stack(
        [np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in one]) for one in image]
    )
    said = run(path, image)
    assert said.shape == (2, 4)
    for index in range(2):
        np.testing.assert_allclose(said[index], run_any(file, small[index][None])[0], atol=1e-4)
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(image[:1])[0], said[:1], atol=1e-3)


def run_any(path: Path, image: np.ndarray) -> np.ndarray:
    """The network on an image of another size than its file says."""
    model = onnx.load_model(path)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, image.shape, strict=True):
        dim.dim_value = size
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": image})[0]
    return found


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    file = convolutions(tmp_path, size=64)
    one, two = (shrunk(file, tmp_path / name, 0.5, sides=(64, 64)) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_an_old_operator_set_is_raised(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    weights = {"w": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)}
    file, old = (
        write(tmp_path / f"{opset}.onnx", graph(nodes, constants=weights, sides=(64, 64)), opset=opset)
        for opset in (13, 9)
    )
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    new, of_old = (run(shrunk(path, tmp_path / path.stem, 0.5, sides=(64, 64)), image) for path in (file, old))
    np.testing.assert_allclose(new, of_old, atol=1e-5)


def test_one_size_only(tmp_path: Path) -> None:
    weights = np.ones((3 * 64 * 64, 2), np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    file = write(tmp_path / "matrix.onnx", graph(nodes, constants={"w": weights}, sides=(64, 64)))
    with pytest.raises(UnsupportedModelError, match="it takes one size of image only"):
        shrunk(file, tmp_path, 0.5, sides=(64, 64))
    with pytest.raises(UnsupportedModelError, match="as small as it gets"):
        shrunk(convolutions(tmp_path), tmp_path, 0.5, sides=(16, 16))
