"""Times of frames since the first of their stream."""

from __future__ import annotations

import pytest

from hams_services.pipeline.media_time import LONGEST_STEP_S, MediaTime


def test_media_time_is_the_file_s_own() -> None:
    media = MediaTime(0.04)
    assert [media.next(at, 0.0) for at in (5.0, 5.04, 6.0)] == pytest.approx([0.0, 0.04, 1.0])
    media.restart()  # the last frame is shown as long as the one before, at most a second
    assert [media.next(at, 0.0) for at in (5.0, 5.04)] == pytest.approx([1.96, 2.0])


@pytest.mark.parametrize("at", [None, 4.0, 5.0, 5.0 + 2 * LONGEST_STEP_S])
def test_where_the_clock_is_missing_or_jumps_a_frame_takes_its_usual_time(at: float | None) -> None:
    media = MediaTime(0.04)
    media.next(5.0, 0.0)
    assert media.next(at, 0.0) == pytest.approx(0.04)
    assert media.next(None if at is None else at + 0.5, 0.0) == pytest.approx(0.08 if at is None else 0.54)


def test_a_folder_starts_over_after_its_last_picture() -> None:
    media = MediaTime(0.5)
    assert [media.next(None, 0.0), media.next(None, 0.0)] == [0.0, 0.5]
    media.restart()
    assert media.next(None, 0.0) == 1.0


def test_a_camera_without_times_has_those_of_arrival() -> None:
    """A Motion JPEG stream; and the first frame of an RTSP stream."""
    media = MediaTime(None)
    assert [media.next(None, arrived) for arrived in (100.0, 100.5, 100.75)] == [0.0, 0.5, 0.75]
    media.restart()
    assert media.next(7.0, 103.75) == pytest.approx(3.75)  # it was away for 3 s
    assert media.next(7.2, 109.0) == pytest.approx(3.95)  # its own clock again
