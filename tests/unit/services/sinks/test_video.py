"""A video shows its frames when they were: what was dropped leaves its gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_client import Result
from hams_services.sinks.video import LONGEST_GAP_S, VideoFiles

SHAPE = (480, 640, 3)


def result(frame: int, time: float | None, *, captured: float = 0.0, stream: str = "s0") -> Result:
    data: dict[str, Any] = {
        "version": 1, "group": "g", "stream": stream, "frame": frame, "captured": captured, "time": time,
        "latency_ms": 1.0, "epoch": 1, "width": 640, "height": 480, "objects": [], "nodes": {},
    }  # fmt: skip
    return Result(data)


def picture(value: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.full(shape, value, np.uint8)


def shown(path: Path) -> list[int]:
    """How bright each picture of a video is."""
    capture, levels = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        levels.append(round(float(got[1].mean()) / 10) * 10)
    capture.release()
    return levels


def test_dropped_frames_leave_their_gap(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.avi", 25)
    for frame in (0, 1, 4, 5, 9):
        files.write(result(frame, frame / 25), picture(20 * (frame + 1)))
    assert files.close() == [tmp_path / "out.avi"]
    assert shown(tmp_path / "out.avi") == [20, 40, 40, 40, 100, 120, 120, 120, 120, 200]


def test_a_slow_or_a_fast_stream_plays_at_its_own_speed(tmp_path: Path) -> None:
    slow = VideoFiles(tmp_path / "slow.avi", 20)
    for frame in range(5):
        slow.write(result(frame, frame / 5), picture(40 * (frame + 1)))
    slow.close()
    assert shown(tmp_path / "slow.avi") == [v for v in (40, 80, 120, 160) for _ in range(4)] + [200]
    fast = VideoFiles(tmp_path / "fast.avi", 10)
    for frame in range(60):
        fast.write(result(frame, frame / 60), picture(4 * frame))
    fast.close()
    assert 10 <= len(shown(tmp_path / "fast.avi")) <= 11


def test_without_times_the_capture_counts(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.avi", 10)
    for frame, captured in enumerate((1e9, 1e9 + 0.1, 1e9 + 0.5)):
        files.write(result(frame, None, captured=captured), picture(50 * (frame + 1)))
    files.close()
    assert shown(tmp_path / "out.avi") == [50, 100, 100, 100, 100, 150]


def test_a_stream_that_begins_anew_goes_on_and_a_long_gap_is_shortened(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.avi", 2)
    times = [100.0, 100.5, 0.0, 0.5, 0.5 + 10 * LONGEST_GAP_S, 1.0 + 10 * LONGEST_GAP_S]
    for frame, time in enumerate(times):
        files.write(result(frame, time), picture(40 * (frame + 1)))
    files.close()
    levels = shown(tmp_path / "out.avi")
    assert levels[:4] == [40, 80, 120, 160]
    assert levels[-2:] == [200, 240]
    assert len(levels) == 4 + 2 * LONGEST_GAP_S + 2


def test_another_size_keeps_its_proportions(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.avi", 25)
    files.write(result(0, 0.0), picture(200))
    files.write(result(1, 0.04), picture(200, (960, 480, 3)))
    files.close()
    capture = cv2.VideoCapture(str(tmp_path / "out.avi"))
    capture.read()
    image = capture.read()[1]
    capture.release()
    assert image is not None
    assert image.shape == SHAPE
    assert image[:, 205:435].mean() == pytest.approx(200, abs=5)  # 240 wide, in the middle
    assert image[:, :190].mean() == pytest.approx(0, abs=5)


def test_each_stream_has_its_file(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.avi", 25)
    for stream in ("a", "b"):
        files.write(result(0, 0.0, stream=stream), picture(100))
    assert files.close() == [tmp_path / "out.avi", tmp_path / "out-b.avi"]
