"""What is read of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hams_agents.inspect import onnx_file
from hams_agents.inspect.entry import read
from hams_shared.errors import ModelError
from support import hostile
from support.own_networks import classifier, detector


def test_a_file_as_exported(tmp_path: Path) -> None:
    found = read(str(detector(tmp_path / "net.onnx")))
    assert found["format"] == "ONNX"
    assert found["inputs"] == [{"name": "images", "shape": [1, 3, 64, 64], "dtype": "float32"}]
    assert found["outputs"] == [{"name": "output0", "shape": [1, 6, 84], "dtype": "float32"}]
    assert found["versions"] == {"IR": "9", "opset": "19"}
    assert found["made_by"] == "pytorch 2.9.0"
    assert found["operators"]["AveragePool"] == 3
    assert found["metadata"]["task"] == "detect"
    assert found["parameters"] == 4 + 4 * 84 + 3
    assert found["input"] == {
        "size": [64, 64], "color": "rgb", "scale": [255], "fit": "letterbox", "pad": 114
    }  # fmt: skip


def test_sizes_that_are_open_have_no_number(tmp_path: Path) -> None:
    found = onnx_file.read(classifier(tmp_path / "net.onnx"))
    assert found.inputs[0].shape == (None, 3, 32, 32)


@pytest.mark.parametrize(
    ("location", "size"), [("weights.bin", 16), ("gone.bin", -1), ("../weights.bin", -1), ("/etc/passwd", -1)]
)
def test_weights_in_other_files(tmp_path: Path, location: str, size: int) -> None:
    """Names that lead out of the folder are not looked at."""
    (tmp_path / "net").mkdir()
    for folder in (tmp_path, tmp_path / "net"):
        (folder / "weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
    assert onnx_file.read(hostile.external(tmp_path / "net", location)).files[location] == size


def test_operators_of_other_domains_and_inner_graphs(tmp_path: Path) -> None:
    """An If holds two; what is nested counts."""
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    inner = [
        helper.make_graph([helper.make_node("Own", ["x"], ["y"], domain="my.ops")], name, [], [port])
        for name in ("then", "other")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner[0], else_branch=inner[1])
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [1])]
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, [port])), tmp_path / "if.onnx")
    assert onnx_file.read(tmp_path / "if.onnx").operators == {"If": 1, "my.ops.Own": 2}


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("net.pt", b"x", r"no network file by its name \(\.pt\).*torch\.onnx\.export"),
        ("net", b"x", "no suffix"),
        ("net.onnx", b"", "is empty"),
        ("net.onnx", b"\x08\x09hello" * 9, "is no ONNX file"),
        ("net.xml", b"<net", "cannot be read"),
        ("net.tflite", b"\0" * 4096, "cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=text):
        read(str(tmp_path / name))
