"""YOLO, in both layouts that Ultralytics exports, through real agents: known weights, known boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import yaml

from support.up import Up
from support.yolo import LABELS, SIZE, SURE, export

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

SCALE = 2
"""The picture is 128×96: letterboxed to 64×48, the rest of the network's input is padding."""


def picture(path: Path) -> Path:
    """Black, but for one cell of stride 8 that is red and one that is blue (in B, G, R)."""
    image = np.zeros((96, 128, 3), np.uint8)
    side = 8 * SCALE
    image[2 * side : 3 * side, 3 * side : 4 * side] = (0, 0, 255)
    image[4 * side : 5 * side, side : 2 * side] = (255, 0, 0)
    assert cv2.imwrite(str(path), image)
    return path


def group(tmp_path: Path, layout: Literal["v5", "v8"], device: str, version: str) -> Path:
    node = {
        "model": str(export(tmp_path / f"{layout}.onnx", layout)),
        "input": {"size": [SIZE, SIZE], "color": "rgb", "scale": [255], "fit": "letterbox"},
        "task": {"type": "yolo", "version": version, "labels": LABELS},
        "pin": [device],
    }
    path = tmp_path / f"{layout}.yaml"
    path.write_text(yaml.safe_dump({"name": f"yolo-{layout}", "nodes": {"object": node}}))
    return path


def test_yolo_finds_what_its_weights_say(up: Up, tmp_path: Path) -> None:
    image = picture(tmp_path / "cells.png")
    devices = {d["record"]["backend"]: d["record"]["device"] for d in up.json("devices")}
    layouts: tuple[tuple[Literal["v5", "v8"], str], ...] = (("v8", "openvino"), ("v5", "onnxruntime"))
    for layout, backend in layouts:
        up.ctl("deploy", group(tmp_path, layout, devices[backend], layout))
        found = {one["label"]: one for one in up.json("infer", f"yolo-{layout}", image)["objects"]}
        assert sorted(found) == ["blue", "red"]
        # The middle of cell (3, 2) is (28, 20): 8 to the left, 16 up, 24 to the right, 8 down, times two.
        assert found["red"]["box"] == pytest.approx([40, 8, 104, 56], abs=0.1)
        assert found["blue"]["box"] == pytest.approx([8, 40, 72, 88], abs=0.1)
        assert [one["score"] for one in found.values()] == pytest.approx([SURE, SURE], abs=1e-3)

    wrong = group(tmp_path, "v8", devices["openvino"], "v5")
    said = up.ctl("deploy", wrong, code=8)
    assert "the output is 1×6×84, expected 1×P×7 for 2 labels" in said
    assert "version v8 with 2 labels fits this shape" in said
