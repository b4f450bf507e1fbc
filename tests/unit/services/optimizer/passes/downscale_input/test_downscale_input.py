"""Input down-scaling: the same as the whole network on an image that was made smaller before."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import helper

from hams_services.optimizer.passes.downscale_input import downscale_input
from hams_shared.errors import UnsupportedModelError
from support.hostile import convolutions
from support.networks import graph, run, write


def downscaled(file: Path, folder: Path, sides: tuple[int, int] = (64, 64)) -> Path:
    done = downscale_input(str(file), str(folder / "made"), 0.5, (1, 3, *sides), "nchw", "both")
    return Path(done["files"][0])


@pytest.mark.parametrize(
    ("share", "along", "size"),
    [(0.25, "both", (32, 24)), (0.5, "width", (32, 48)), (0.99, "width", (56, 48)), (0.01, "both", (16, 16))],
)
def test_it_equals_the_network_on_a_smaller_image(
    tmp_path: Path, share: float, along: str, size: tuple[int, int]
) -> None:
    file, whole = convolutions(tmp_path, size=64), tmp_path / "whole.onnx"
    done = downscale_input(str(file), str(tmp_path / "made"), share, (1, 3, 48, 64), "nchw", along)
    assert tuple(done["size"]) == size
    path = Path(done["files"][0])
    image = np.random.default_rng(0).normal(size=(2, 3, 48, 64)).astype(np.float32)
    small = np.stack(
        [np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in one]) for one in image]
    )
    outputs = run(path, image)
    assert outputs.shape == (2, 4)
    model = onnx.load_model(file)
    for axis, side in ((2, size[1]), (3, size[0])):  # the file declares another size than it can take
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    whole.write_bytes(model.SerializeToString())
    np.testing.assert_allclose(outputs, run(whole, small), atol=1e-4)
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(image[:1])[0], outputs[:1], atol=1e-3)


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    file = convolutions(tmp_path, size=64)
    one, two = (downscaled(file, tmp_path / name) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_an_old_operator_set_is_raised(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    weights = {"w": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)}
    file, old = (
        write(tmp_path / f"{opset}.onnx", graph(nodes, constants=weights, sides=(64, 64)), opset=opset)
        for opset in (13, 9)
    )
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    new, of_old = (run(downscaled(path, tmp_path / path.stem), image) for path in (file, old))
    np.testing.assert_allclose(new, of_old, atol=1e-5)


def test_one_size_only(tmp_path: Path) -> None:
    weights = np.ones((3 * 64 * 64, 2), np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    file = write(tmp_path / "matrix.onnx", graph(nodes, constants={"w": weights}, sides=(64, 64)))
    with pytest.raises(UnsupportedModelError, match="it takes one size of image only"):
        downscaled(file, tmp_path)
    with pytest.raises(UnsupportedModelError, match="as small as it gets"):
        downscaled(convolutions(tmp_path), tmp_path, sides=(16, 16))
