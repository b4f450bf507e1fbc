from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hams_services.models.onnx_dims import normalize_onnx
from hams_shared.errors import ModelError

Node = Any


def network(
    *nodes: Node,
    shape: tuple[int | str, ...] = (10, 3, 32, 32),
    out: tuple[int | str, ...] = (10, 2, 16, 16),
    listed: bool = False,
    weights: dict[str, np.ndarray] | None = None,
    ir_version: int = 8,
) -> bytes:
    kernel = np.random.default_rng(0).standard_normal((2, 3, 2, 2)).astype(np.float32)
    tensors = [numpy_helper.from_array(v, n) for n, v in {"w": kernel, **(weights or {})}.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(
        list(nodes),
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        tensors,
        value_info=[helper.make_tensor_value_info("c", TensorProto.FLOAT, (10, 2, 16, 16))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)
    return bytes(model.SerializeToString())


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Node:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


CONV = node("Conv", "x w", "c", strides=[2, 2], kernel_shape=[2, 2])
RELU = node("Relu", "c", "y")
FLAT = node("Flatten", "c", "f")
GEMM = node("Gemm", "f g", "y")
DENSE = {"g": np.ones((512, 4), np.float32)}


def dims(data: bytes) -> tuple[list[Any], list[Any]]:
    graph = onnx.load_model_from_string(data).graph
    return tuple(  # type: ignore[return-value]
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (graph.input[0], graph.output[0])
    )


def run(data: bytes, *shape: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.ones(shape, np.float32)})[0])


def test_weights_leave_the_inputs_and_dims_become_free() -> None:
    data = network(CONV, RELU, listed=True, ir_version=3, weights={"stale": np.zeros(3, np.float32)})
    result = normalize_onnx(data, (1, 3, 64, 96))
    model = onnx.load_model_from_string(result)
    assert [v.name for v in model.graph.input] == ["x"]
    assert [t.name for t in model.graph.initializer] == ["w"]
    assert not model.graph.value_info
    assert model.ir_version >= 4
    assert dims(result) == (["N", 3, "H", "W"], ["N", 2, "y_2", "y_3"])
    onnx.checker.check_model(model)
    for batch in (1, 4):
        assert run(result, batch, 3, 64, 96).shape == (batch, 2, 32, 48)


def test_the_digest_is_stable_and_the_result_a_fixed_point() -> None:
    data = network(CONV, RELU, listed=True)
    first = normalize_onnx(data, (1, 3, 64, 96))
    assert first == normalize_onnx(data, (1, 3, 64, 96))
    assert normalize_onnx(first, (1, 3, 64, 96)) is first
    assert normalize_onnx(first, (1, 3, 32, 32)) is first


def test_height_and_width_stay_when_the_group_asks_for_them() -> None:
    for wanted in (None, (1, 3, 32, 32)):
        assert dims(normalize_onnx(network(CONV, RELU), wanted)) == (["N", 3, 32, 32], ["N", 2, 16, 16])


def test_a_dense_layer_takes_any_batch_but_one_size() -> None:
    data = network(CONV, FLAT, GEMM, weights=DENSE, out=(10, 4))
    result = normalize_onnx(data, (1, 3, 32, 32))
    assert dims(result) == (["N", 3, 32, 32], ["N", 4])
    assert run(result, 3, 3, 32, 32).shape == (3, 4)
    with pytest.raises(ModelError, match="10×3×32×32, not 1×3×64×64, and is not fully convolutional"):
        normalize_onnx(data, (1, 3, 64, 64))


@pytest.mark.parametrize(("lead", "free"), [(0, True), (-1, True), (10, False)])
def test_a_reshape_may_hold_the_batch(lead: int, free: bool) -> None:
    shape = {"s": np.array([lead, 512], np.int64)}
    data = network(CONV, node("Reshape", "c s", "y"), weights=shape, out=(10, 512))
    result = normalize_onnx(data, (1, 3, 32, 32))
    assert (result is not data) == free
    assert dims(result)[0][0] == ("N" if free else 10)


@pytest.mark.parametrize(
    ("last", "batch", "sides"),
    [
        (node("ReduceMean", "c", "y", axes=[0]), False, False),
        (node("Softmax", "c", "y", axis=1), True, True),
        (node("Softmax", "c", "y", axis=-1), True, False),
        (node("Concat", "c c", "y", axis=1), True, True),
        (node("Concat", "c c", "y", axis=2), True, False),
        (node("Concat", "c c", "y", axis=0), False, False),
        (node("Transpose", "c", "y", perm=[0, 2, 3, 1]), True, False),
        (node("Transpose", "c", "y", perm=[1, 0, 2, 3]), False, False),
        (node("Relu", "c", "y", domain="other"), False, False),
    ],
)
def test_which_operators_do_not_care(last: Node, batch: bool, sides: bool) -> None:
    data = network(CONV, last)
    assert (normalize_onnx(data, (1, 3, 32, 32)) is not data) == batch
    if sides:
        assert dims(normalize_onnx(data, (1, 3, 64, 64)))[0][2:] == ["H", "W"]
    else:
        with pytest.raises(ModelError, match="not fully convolutional"):
            normalize_onnx(data, (1, 3, 64, 64))


def test_channels_must_fit() -> None:
    with pytest.raises(ModelError, match="color and layout"):
        normalize_onnx(network(CONV, RELU), (1, 1, 64, 64))


def test_free_dims_of_the_file_are_left() -> None:
    data = network(CONV, RELU, shape=("b", 3, "h", "w"), out=("b", 2, "p", "q"))
    assert normalize_onnx(data, (1, 3, 480, 640)) is data


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x00" * 100, b"\x08\x08"])
def test_what_is_no_network(data: bytes) -> None:
    with pytest.raises(ModelError, match="ONNX file"):
        normalize_onnx(data, (1, 3, 32, 32))


def test_weights_in_other_files_are_refused() -> None:
    model = onnx.load_model_from_string(network(CONV, RELU))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    with pytest.raises(ModelError, match="other files"):
        normalize_onnx(model.SerializeToString())
