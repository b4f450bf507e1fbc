"""A vendor's compiled file on the vendor's device, from the group file to results; the runtime is a stand-in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from onnx import TensorProto, helper

from support import grey
from support.results import Subscriber
from support.up import Up
from support.vendors import FOLDER

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def group_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """How bright each frame is, by a network "compiled" for Hailo."""
    port = helper.make_tensor_value_info
    mean = helper.make_node("ReduceMean", ["image"], ["y"], axes=[1, 2, 3], keepdims=0)
    ports = [port("image", TensorProto.FLOAT, (1, 8, 8, 3))], [port("y", TensorProto.FLOAT, (1,))]
    onnx = helper.make_model(
        helper.make_graph([mean], "brightness", *ports), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    monkeypatch.syspath_prepend(str(FOLDER))
    import vendor_network

    hef = vendor_network.write(folder / "brightness.hef", b"\x01HEF", onnx.SerializeToString())
    source = str(grey.video(folder))
    path = grey.group_file(folder, source, mode="lossless", pace="max")
    spec = yaml.safe_load(path.read_text())
    spec["nodes"]["light"] |= {"model": str(hef), "input": {"size": [8, 8], "layout": "nhwc", "dtype": "u8"}}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def test_a_compiled_file_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = group_file(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("FAKE_HAILO", "1")
    with Up(tmp_path / "home", f"openvino:CPU@{min(os.sched_getaffinity(0))}", "hailo:NPU") as up:
        found = up.ctl("devices", "--discover")
        assert "--device hailo:NPU:0" in found
        assert "never run on real hardware" in found
        with Subscriber(up.url, "grey") as results:
            up.ctl("deploy", group)
            assert up.until_ended()["delivered"] == grey.LENGTH
            results.until(grey.LENGTH)
        for result in results.received:
            assert result.objects[0]["light"]["value"] == pytest.approx(grey.STEP * result.frame, abs=3)
        matrix = up.json("matrix")
        reasons = {pair: why for pair, why in matrix["reasons"].items() if "openvino" in pair}
        assert ["OpenVINO does not read .hef" in why for why in reasons.values()] == [True]
        assert "HAILO-8" in up.ctl("devices")
