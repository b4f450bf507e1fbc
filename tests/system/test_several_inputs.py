"""Networks with several inputs through real agents: measured, planned, and fed with what the other process found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from support.up import Up

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def detector(folder: Path) -> Path:
    """One box, the left half of an image of the size that it is told, in parts of it; weights in a file beside it."""
    nodes = [
        helper.make_node("Cast", ["size"], ["wh"], to=FLOAT),
        helper.make_node("Div", ["wh", "wh"], ["ones"]),
        helper.make_node("ReduceMean", ["ones"], ["one"], keepdims=0),
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
        helper.make_node("Mul", ["row", "one"], ["kept"]),
        helper.make_node("Add", ["kept", "nothing"], ["found"]),
    ]
    row = np.array([0, 1, 0.9, 0, 0, 0.5, 1], np.float32).reshape(1, 1, 1, 7)
    ports = [
        helper.make_tensor_value_info("size", INT64, [1, 2]),
        helper.make_tensor_value_info("image", FLOAT, [1, 3, 32, 32]),
    ]
    outputs = [helper.make_tensor_value_info("found", FLOAT, [1, 1, 1, 7])]
    graph = helper.make_graph(nodes, "g", ports, outputs, [numpy_helper.from_array(row, "row")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=onnx.IR_VERSION)
    path = folder / "det.onnx"
    onnx.save(model, path, save_as_external_data=True, location="det.onnx.data", size_threshold=0)
    return path


def inverse(folder: Path) -> Path:
    """The box that it is given, times the inverse of the identity, by an operator that only ONNX Runtime has."""
    nodes = [
        helper.make_node("Inverse", ["eye"], ["same"], domain="com.microsoft"),
        helper.make_node("MatMul", ["box", "same"], ["there"]),
        helper.make_node("ReduceMean", ["crop"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
        helper.make_node("Add", ["there", "nothing"], ["y"]),
    ]
    ports = [
        helper.make_tensor_value_info("crop", FLOAT, [1, 3, 16, 16]),
        helper.make_tensor_value_info("box", FLOAT, [1, 4]),
    ]
    outputs = [helper.make_tensor_value_info("y", FLOAT, [1, 4])]
    graph = helper.make_graph(nodes, "g", ports, outputs, [numpy_helper.from_array(np.eye(4, dtype=np.float32), "eye")])
    domains = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "inverse.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return path


def test_a_child_is_told_the_box_that_another_device_found(up: Up, tmp_path: Path) -> None:
    image = tmp_path / "frame.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    devices = {d["record"]["backend"]: d["record"]["device"] for d in up.json("devices")}
    det = {
        "model": str(detector(tmp_path)),
        "input": {"size": [32, 32]},
        "task": {"type": "detection_output", "labels": {1: "half"}},
        "pin": [devices["openvino"]],
    }
    child = {
        "model": str(inverse(tmp_path)),
        "parent": "det",
        "input": {"size": [16, 16]},
        "inputs": {"box": {"parent": "box", "pixels": "frame"}},
        "task": {"type": "raw"},
    }
    path = tmp_path / "group.yaml"
    path.write_text(yaml.safe_dump({"name": "several", "nodes": {"det": det, "child": child}}))
    said = up.ctl("deploy", path, code=3)
    assert "node det: nothing feeds the network's input size (1×2 int64)" in said
    det["inputs"] = {"size": "input_wh"}
    path.write_text(yaml.safe_dump({"name": "several", "nodes": {"det": det, "child": child}}))
    up.ctl("deploy", path)
    (found,) = up.json("infer", "several", image)["objects"]
    assert found["box"] == pytest.approx([0, 0, 32, 48], abs=0.1)
    assert found["child"]["y"]["values"] == pytest.approx([0, 0, 32, 48], abs=0.1)
    matrix = up.ctl("matrix")
    assert "Inverse" in matrix  # OpenVINO's cell is empty, and says why
