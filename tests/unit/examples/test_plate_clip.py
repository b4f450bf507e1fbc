"""examples/apps/plate_clip.py: a clip on which Service V has something to read."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import av
import cv2
import pytest

from support.zoo import BIKES, real


def test_a_plate_comes_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real(BIKES)
    path = tmp_path / "plate.mp4"
    monkeypatch.setattr(sys, "argv", ["plate_clip.py", str(path), "--text", "AB12"])
    runpy.run_path(str(Path(__file__).parents[3] / "examples" / "apps" / "plate_clip.py"), run_name="__main__")
    blue = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            b, g, r = cv2.split(frame.to_ndarray(format="bgr24").astype(int))
            blue.append(int(((b > 120) & (b > r + 60) & (b > g + 50)).sum()))
    assert len(blue) == 75
    assert blue[0] > 200
    assert blue[-1] > 1.5 * blue[0]
