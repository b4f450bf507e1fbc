"""The backend of docs/backends.md, as a new user adds it: pip installs it, and a real system serves a group on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from hams_agents.backends.contract import samples
from support.up import ROOT, Up

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the example."""
    folder = tmp_path_factory.mktemp("site")
    argv = ["install", "--quiet", "--no-deps", "--target", str(folder), str(ROOT / "examples" / "backend")]
    done = subprocess.run([sys.executable, "-m", "pip", *argv], capture_output=True, text=True, timeout=300)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("pip cannot fetch hatchling here, which builds the package")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_group_is_served_on_the_device_of_a_page(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))
    model = samples.scaled(tmp_path).model.path
    node = {
        "model": str(model),
        "input": {"size": [8, 8], "color": "rgb", "scale": [255]},
        "task": {"type": "raw"},
    }
    group = tmp_path / "group.yaml"
    group.write_text(yaml.safe_dump({"name": "own", "nodes": {"scaled": node}}))
    picture = tmp_path / "picture.png"
    assert cv2.imwrite(str(picture), np.full((8, 8, 3), (51, 102, 204), np.uint8))
    with Up(tmp_path / "home", "reference:CPU") as up:
        [device] = up.json("devices")
        assert device["record"]["device"] == "box.reference.cpu"
        assert device["record"]["runtime"].startswith("onnx ")
        up.ctl("deploy", group)
        result = up.json("infer", "own", picture)
        assert result["objects"][0]["scaled"]["mean"]["values"] == pytest.approx([0.8, 0.4, 0.2], abs=0.01)
        shown = up.ctl("devices", "--discover")
        assert "--device openvino:CPU" in shown
        assert "the CPU once more: --device reference:CPU (onnx" in shown
        assert "an example: slow" in shown
