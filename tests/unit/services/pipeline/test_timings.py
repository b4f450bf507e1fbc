"""How fast a stream is, as `status` shows it."""

from __future__ import annotations

import pytest

from hams_services.pipeline.timings import Timings


@pytest.mark.parametrize("fps", [10, 300, 1000])
def test_a_playing_stream_shows_the_frames_of_the_last_seconds(fps: int) -> None:
    timings = Timings()
    for frame in range(10 * fps):
        timings.delivered(1.0, 100.0 + frame / fps)
    assert timings.fps(10 * fps, 110.0, playing=True) == pytest.approx(fps, rel=0.03)
    assert timings.fps(10 * fps, 110.0, playing=False) == pytest.approx(fps, rel=0.03)


def test_a_fast_stream_that_stands_still_shows_so() -> None:
    timings = Timings()
    for frame in range(5000):
        timings.delivered(1.0, 100.0 + frame / 1000)
    assert timings.fps(5000, 108.0, playing=True) == pytest.approx(400, rel=0.01)
    assert timings.fps(5000, 111.0, playing=True) == 0.0
