"""A folder of crops says of each picture which frame it shows, and when that was."""

from __future__ import annotations

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
    assert [line["file"] for line in lines] == [f"00000{n}-1-face.jpg" for n in (0, 3, 5)]
    assert [(line["frame"], line["captured"], line["media_time_s"]) for line in lines] == [
        (0, 1e9, 0.0), (3, 1e9 + 3, 0.75), (5, 1e9 + 5, 1.25)
    ]  # fmt: skip
    assert all(line["object"] == FACE for line in lines)
    image = cv2.imread(str(tmp_path / "gate" / lines[1]["file"]))
    assert image is not None
    assert image.shape == (40, 30, 3)
    assert image.mean() == pytest.approx(30, abs=2)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    with pytest.raises(SourceError, match=r"cannot write .*face\.jpg: .*is the folder writable"):
        CropFolder(tmp_path, frozenset(), 0.0).write(of_gate(0, FACE), np.zeros((80, 64, 3), np.uint8))
