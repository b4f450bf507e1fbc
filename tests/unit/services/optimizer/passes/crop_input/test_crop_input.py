"""Cropped networks: the outputs are those for the whole image, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import NodeProto, TensorProto, helper

from hams_services.optimizer.passes.crop_input.axis_crop import crop_input
from hams_shared.errors import UnsupportedModelError
from support.networks import graph, run, write

WHOLE, FILLED, PART = 32, 12, 24
"""Rows of the image, those that show something, and those that the network is to look at."""
Constants = dict[str, np.ndarray]
node = helper.make_node


def network(folder: Path, nodes: list[NodeProto], constants: Constants, opset: int = 13) -> Path:
    """A convolution with bias and ReLU, ``r`` N×4×32×32, and what `nodes` make of it."""
    random = np.random.default_rng(0)
    known = {
        "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": random.normal(size=4).astype(np.float32),
        "u": random.normal(size=(4, 4, 3, 3)).astype(np.float32),
    }
    first = [node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"])]
    built = graph([*first, *nodes], constants=known | constants, sides=(WHOLE, WHOLE))
    return write(folder / "net.onnx", built, opset=opset)


def images(seed: int, count: int = 12, filled: tuple[int, int] = (FILLED, WHOLE)) -> np.ndarray:
    """Images that show something at the top (and left), and one value below."""
    found = np.full((count, 3, WHOLE, WHOLE), -0.5, np.float32)
    shape = (count, 3, *filled)
    found[:, :, : filled[0], : filled[1]] = np.random.default_rng(seed).normal(size=shape)
    return found


def part_of(file: Path, folder: Path, size: tuple[int, int] = (WHOLE, PART), seen: np.ndarray | None = None) -> Path:
    np.save(folder / "seen.npy", images(1) if seen is None else seen)
    done = crop_input(str(file), str(folder / "made"), list(size), "nchw", str(folder / "seen.npy"))
    return Path(done["files"][0])


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


PUT_BACK = {"weights of channels"}
"""What they output for the padding depends on the rest of the image; there it is right on average only."""
TABLE: dict[str, tuple[list[NodeProto], Constants]] = {
    "a map": ([node("Conv", ["r", "u"], ["y"], pads=[1, 1, 1, 1])], {}),
    "steps": ([node("Conv", ["r", "u"], ["y"], pads=[0, 0, 1, 1], strides=[2, 2])], {}),
    "pads in words": ([node("Conv", ["r", "u"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])], {}),
    "a border": (
        [node("Pad", ["r", "pads"], ["p"]), node("Conv", ["p", "u"], ["y"])],
        {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
    "greatest": ([node("MaxPool", ["r"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
    "averages": ([node("AveragePool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2])], {}),
    "an average of all": ([node("AveragePool", ["r"], ["y"], kernel_shape=[32, 32])], {}),
    "larger, by scales": ([node("Resize", ["r", "", "s"], ["y"], mode="nearest")], {"s": floats(1, 1, 2, 2)}),
    "larger, to a size": (
        [node("Resize", ["r", "", "", "s"], ["l"], mode="linear"), node("Relu", ["l"], ["y"])],
        {"s": ints(1, 4, 64, 64)},
    ),
    "larger, by corners": (
        [node("Resize", ["r", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")],
        {"s": floats(1, 1, 2, 2)},
    ),
    "smaller": ([node("Resize", ["r", "", "s"], ["y"], mode="nearest")], {"s": floats(1, 1, 0.75, 0.75)}),
    "joined": (
        [
            node("Conv", ["r", "u"], ["d"], pads=[1, 1, 1, 1]),
            node("Concat", ["r", "d"], ["j"], axis=1),
            node("Split", ["j"], ["s1", "s2"], axis=1),
            node("Mul", ["s1", "s2"], ["y"]),
        ],
        {},
    ),
    "joined along the rows": ([node("Concat", ["r", "r"], ["y"], axis=2)], {}),
    "some channels": (
        [node("Slice", ["r", "from", "to", "axes"], ["y"])],
        {"from": ints(1), "to": ints(3), "axes": ints(1)},
    ),
    "some rows": (
        [node("Slice", ["r", "from", "to", "axes"], ["y"])],
        {"from": ints(3), "to": ints(30), "axes": ints(2)},
    ),
    "a number per row": ([node("Add", ["r", "rows"], ["y"])], {"rows": np.arange(32, dtype=np.float32)[:, None]}),
    "a number per channel": ([node("PRelu", ["r", "k"], ["y"])], {"k": floats(1, 2, 3, 4)[:, None, None]}),
    "anchors": (
        [node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]), node("Reshape", ["t", "shape"], ["y"])],
        {"shape": ints(0, -1, 2)},
    ),
    "over channels": ([node("Softmax", ["r"], ["y"], axis=1)], {}),
    "over rows": ([node("Softmax", ["r"], ["y"], axis=2)], {}),
    "weights of channels": (
        [node("GlobalAveragePool", ["r"], ["g"]), node("Sigmoid", ["g"], ["s"]), node("Mul", ["r", "s"], ["y"])],
        {},
    ),
    "a mean": ([node("ReduceMean", ["r"], ["y"], axes=[2, 3], keepdims=0)], {}),
    "a mean along the rows": ([node("ReduceMean", ["r"], ["y"], axes=[2], keepdims=1)], {}),
    "a mean over channels": ([node("ReduceMean", ["r"], ["y"], axes=[1], keepdims=1)], {}),
    "truth": (
        [node("Cast", ["r"], ["true"], to=TensorProto.BOOL), node("Cast", ["true"], ["y"], to=TensorProto.FLOAT)],
        {},
    ),
    "normalised": (
        [node("BatchNormalization", ["r", "k", "k", "k", "k"], ["y"])],
        {"k": floats(1, 2, 3, 4)},
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_it_says_the_same_of_less(tmp_path: Path, case: str) -> None:
    nodes, constants = TABLE[case]
    file = network(tmp_path, nodes, constants)
    path = part_of(file, tmp_path)
    shown = images(2, 3)
    before = np.concatenate([run(file, one[None]) for one in shown])
    after = np.concatenate([run(path, np.ascontiguousarray(one[None, :, :PART])) for one in shown])
    assert after.shape == before.shape
    if case in PUT_BACK:
        np.testing.assert_allclose(after, before, atol=0.05)
        before, after = before[:, :, : PART - 1], after[:, :, : PART - 1]
    np.testing.assert_allclose(after, before, atol=2e-4)
    few = np.ascontiguousarray(shown[:1, :, :PART])
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(few)[0], run(path, few), atol=2e-3)
    given = onnx.load_model(path).graph.input[0].type.tensor_type.shape.dim
    assert [given[0].dim_param, *(one.dim_value for one in given[1:])] == ["n", 3, PART, WHOLE]


def test_both_sides(tmp_path: Path) -> None:
    nodes, constants = TABLE["a mean"]
    file = network(tmp_path, nodes, constants)
    path = part_of(file, tmp_path, (PART, PART), images(1, filled=(FILLED, FILLED)))
    shown = images(2, 2, (FILLED, FILLED))
    few = np.ascontiguousarray(shown[:, :, :PART, :PART])
    np.testing.assert_allclose(run(path, few), run(file, shown), atol=2e-4)


def test_constants_make_up_for_what_is_cut_off(tmp_path: Path) -> None:
    """With no padding left the layers at the end see zeros where there was something: on average it is put right."""
    nodes = [node("Conv", ["r", "u"], ["d"], pads=[1, 1, 1, 1]), node("Reshape", ["d", "shape"], ["y"])]
    file = network(tmp_path, nodes, {"shape": ints(0, 4, -1)})
    path = part_of(file, tmp_path, (WHOLE, FILLED), images(1, 40))
    shown = images(2, 60)
    error = run(path, np.ascontiguousarray(shown[:, :, :FILLED])) - run(file, shown)
    last = error.reshape(60, 4, WHOLE, WHOLE)[:, :, FILLED - 1]
    assert np.abs(last).mean() > 0.1  # it cannot know
    assert abs(last.mean()) < 0.1 * np.abs(last).mean()


def test_fewer_rows_are_computed(tmp_path: Path) -> None:
    nodes, constants = TABLE["anchors"]
    path = part_of(network(tmp_path, nodes, constants), tmp_path)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(onnx.load_model(path)).graph.value_info
    }
    assert shapes["t"][1:] == [PART, WHOLE, 4]


def test_maps_of_few_places_are_computed_whole(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", ["r"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Conv", ["p", "u"], ["y"], pads=[1, 1, 1, 1]),
    ]
    path = part_of(network(tmp_path, nodes, {}), tmp_path)
    pooled = next(one for one in onnx.load_model(path).graph.node if one.op_type == "MaxPool")
    assert pooled.input[0] == "hams_whole/2/r"


def test_what_rests_on_other_constants_is_fitted_after_them(tmp_path: Path) -> None:
    """A weight of channels, then a map that it scales: with both fitted at once the second would be far off."""
    gate = [node("GlobalAveragePool", ["r"], ["g"]), node("Mul", ["r", "g"], ["m"])]
    again = [node("GlobalAveragePool", ["m"], ["h"]), node("Mul", ["m", "h"], ["o"])]
    file = network(tmp_path, [*gate, *again, node("ReduceMean", ["o"], ["y"], axes=[2, 3])], {})
    path, shown = part_of(file, tmp_path, seen=images(1, 40)), images(2, 20)
    before = np.stack([run(file, one[None]) for one in shown])
    after = np.stack([run(path, np.ascontiguousarray(one[None, :, :PART])) for one in shown])
    assert np.abs(after - before).mean() < 0.01 * np.abs(before - before.mean(axis=0)).mean()


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    nodes, constants = TABLE["weights of channels"]
    file = network(tmp_path, nodes, constants)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (part_of(file, tmp_path / name) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_an_old_operator_set_is_raised(tmp_path: Path) -> None:
    nodes, constants = TABLE["a mean"]
    file = network(tmp_path, nodes, constants, opset=9)
    path, shown = part_of(file, tmp_path), images(2, 2)
    np.testing.assert_allclose(run(path, np.ascontiguousarray(shown[:, :, :PART])), run(file, shown), atol=2e-4)


def test_what_runs_on_a_condition_is_refused(tmp_path: Path) -> None:
    port = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Relu", ["r"], ["z"])], "branch", [], [port])
    file = network(
        tmp_path, [node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)], {"yes": np.array(True)}
    )
    with pytest.raises(UnsupportedModelError, match="runs on a condition"):
        part_of(file, tmp_path)


def test_what_does_not_run_is_refused(tmp_path: Path) -> None:
    file = network(tmp_path, [node("MatMul", ["r", "m"], ["y"])], {"m": np.ones((5, 5), np.float32)})
    with pytest.raises(UnsupportedModelError, match="cannot be put on a part of its image"):
        part_of(file, tmp_path)
