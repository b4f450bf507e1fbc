"""Networks with further inputs in the optimizer: run where children need samples, and no variants."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from hams_services.models.prepare import prepare_group
from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.importing.convert import import_file, source_digest
from hams_services.optimizer.importing.formats import Format
from hams_shared.errors import HamsError, UnsupportedModelError
from hams_shared.group.spec import GroupSpec, parse_group
from support.networks import means, write

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def sized(folder: Path) -> Path:
    """An SSD-like detector that gives one box: the left half of an image of the size that it is told."""
    nodes = [
        helper.make_node("Constant", [], ["row"], value_floats=[0.0, 1.0, 0.9, 0.0, 0.0, 0.5, 1.0]),
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 1, 1, 7]),
        helper.make_node("Reshape", ["row", "shape"], ["box"]),
        helper.make_node("Cast", ["size"], ["wh"], to=FLOAT),
        helper.make_node("ReduceMax", ["wh"], ["most"], keepdims=0),
        helper.make_node("Div", ["most", "most"], ["one"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
        helper.make_node("Mul", ["box", "one"], ["kept"]),
        helper.make_node("Add", ["kept", "nothing"], ["y"]),
    ]
    ports = [
        helper.make_tensor_value_info("x", FLOAT, [1, 3, 32, 32]),
        helper.make_tensor_value_info("size", INT64, [1, 2]),
    ]
    graph = helper.make_graph(nodes, "g", ports, [helper.make_tensor_value_info("y", FLOAT, [1, 1, 1, 7])])
    return write(folder / "sized.onnx", graph)


@pytest.fixture
def spec(tmp_path: Path) -> GroupSpec:
    return parse_group({
        "name": "g",
        "nodes": {
            "det": {
                "model": str(sized(tmp_path)), "input": {"size": [32, 32]}, "inputs": {"size": "input_wh"},
                "task": {"type": "detection_output", "labels": {1: "half"}},
            },
            "child": {
                "model": str(means(tmp_path)), "parent": "det", "input": {"size": [8, 8]}, "task": {"type": "raw"},
            },
        },
    })  # fmt: skip


def test_samples_of_children_of_a_network_with_further_inputs(spec: GroupSpec, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    cv2.imwrite(str(frames / "f.png"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    record, files = prepare_group(spec, tmp_path, lambda what, done, total: None)
    candidates = {}
    for node, ref in record.models.items():
        path = tmp_path / f"{node}.made.onnx"
        path.write_bytes(files[ref.digest])
        candidates[node] = Candidate(path, ref.digest, None, ref.further)
    counts = Evaluator("onnxruntime:CPU").collect(spec, candidates, frames, tmp_path / "samples")
    assert counts == {"det": 1, "child": 1}
    crop = cv2.imread(str(next((tmp_path / "samples" / "child").glob("*.png"))))
    assert crop is not None
    assert crop.shape == (8, 8, 3)


def test_no_variants_are_made(spec: GroupSpec, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="node det takes size besides the image: variants"):
        NodeSamples.of("det", spec.nodes["det"], tmp_path)


def test_an_import_takes_weights_of_other_files_in(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "net.onnx"
    weights = onnx.numpy_helper.from_array(np.full((1, 3, 8, 8), 2, np.float32), "w")
    ports = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    before = source_digest(path, Format.ONNX)
    done = import_file(str(path), str(tmp_path / "out"))
    assert done["digest"] == before
    made = onnx.load_model(done["files"]["onnx"][0])
    assert onnx.numpy_helper.to_array(made.graph.initializer[0]).max() == 2
    (tmp_path / "net.onnx.data").write_bytes(bytes(768))
    assert source_digest(path, Format.ONNX) != before
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(HamsError, match="which is not there"):
        import_file(str(path), str(tmp_path / "again"))
