"""A folder of crops says of each picture which frame it shows, and when that was."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_client import Result
from hams_services.sinks.crops import CropFolder
from hams_shared.errors import SourceError
from support.results import result

FACE = {"box": [10.0, 20.0, 40.0, 60.0], "score": 0.9, "label": "face", "age": {"value": 31.0, "unit": "years"}}
UNSURE = {**FACE, "score": 0.2}


def of_gate(frame: int, *objects: dict[str, Any]) -> Result:
    return result(frame, frame / 4, *objects, captured=1e9 + frame, stream="gate")


def test_each_crop_has_a_line_with_both_times(tmp_path: Path) -> None:
    for frames in ((0, 3), (5,)):  # a second sink goes on
        into = CropFolder(tmp_path, frozenset(), 0.5)
        for frame in frames:
            into.write(of_gate(frame, UNSURE, FACE), np.full((80, 64, 3), 10 * frame, np.uint8))
        into.write(of_gate(9, UNSURE), np.zeros((80, 64, 3), np.uint8))
        assert into.written == len(frames)
    lines = [json.loads(line) for line in (tmp_path / "gate" / "crops.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"20010909T01464{n}.000Z-00000{n}-1-face.jpg" for n in (0, 3, 5)]
    assert [(line["frame"], line["captured"], line["media_time_s"]) for line in lines] == [
        (0, 1e9, 0.0), (3, 1e9 + 3, 0.75), (5, 1e9 + 5, 1.25)
    ]  # fmt: skip
    assert all(line["object"] == FACE for line in lines)
    image = cv2.imread(str(tmp_path / "gate" / lines[1]["file"]))
    assert image is not None
    assert image.shape == (40, 30, 3)
    assert image.mean() == pytest.approx(30, abs=2)


def test_a_stream_that_starts_over_overwrites_nothing(tmp_path: Path) -> None:
    for captured in (1e9, 1e9 + 60, 1e9):  # frame 0 each time; the last one after the clock was set back
        again = result(0, 0.0, FACE, captured=captured, stream="gate")
        CropFolder(tmp_path, frozenset(), 0.5).write(again, np.zeros((80, 64, 3), np.uint8))
    lines = [json.loads(line) for line in (tmp_path / "gate" / "crops.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [
        "20010909T014640.000Z-000000-0-face.jpg",
        "20010909T014740.000Z-000000-0-face.jpg",
        "20010909T014640.000Z-000000-0-face-2.jpg",
    ]
    assert {path.name for path in (tmp_path / "gate").glob("*.jpg")} == {line["file"] for line in lines}


def test_an_object_with_bytes_is_listed_too(tmp_path: Path) -> None:
    depth = {**FACE, "depth": {"map": {"size": [1, 1], "png": b"\x89PNG"}}}
    CropFolder(tmp_path, frozenset(), 0.5).write(of_gate(0, depth), np.zeros((80, 64, 3), np.uint8))
    line = json.loads((tmp_path / "gate" / "crops.jsonl").read_text())
    assert base64.b64decode(line["object"]["depth"]["map"]["png"]) == b"\x89PNG"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    with pytest.raises(SourceError, match=r"cannot write .*face\.jpg: .*is the folder writable"):
        CropFolder(tmp_path, frozenset(), 0.0).write(of_gate(0, FACE), np.zeros((80, 64, 3), np.uint8))
