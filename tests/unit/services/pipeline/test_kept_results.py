"""Ids, sizes and marks of kept results: tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.bookmarks import Bookmarks
from hams_services.pipeline.kept_sizes import OVERHEAD, PIECES, KeptSizes
from hams_services.pipeline.result_ids import result_id, stored_frame
from hams_shared.wire.messages.results import MediaMark


@pytest.mark.parametrize(
    ("id", "frame"),
    [
        (result_id("face", "cam", "r1", 12), 12),
        ("face.cam.r1.12.abcd0123.0.3", 11),  # a part is missing: the frame is not stored whole
        ("face.cam.r1.12.abcd0123.2.3", 12),
        ("face.cam.r2.12", -1),
        ("face.cam.r1", -1),
        ("face.cam.r1.x", -1),
        ("", -1),
    ],
)
def test_which_frame_is_stored(id: str, frame: int) -> None:
    assert stored_frame(id, "r1") == frame


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=300), st.integers(20_000, 200_000))
def test_a_group_has_no_more_than_it_may_and_no_less_than_most_of_it(sizes: list[int], most: int) -> None:
    kept, stored = KeptSizes(most), []
    for sequence, size in enumerate(sizes, 1):
        stored.append((sequence, size + OVERHEAD))
        if kept.stored(sequence, size) and (before := kept.discard()):
            stored = [one for one in stored if one[0] >= before]
        held = sum(size for _, size in stored)
        assert held <= most + 3000 + OVERHEAD
        if sequence > len(stored):
            assert held >= most - 3 * (most / PIECES + 3000 + OVERHEAD)


def test_sizes_over_a_restart_and_a_lost_store() -> None:
    kept = KeptSizes(16_000)
    for sequence in range(1, 9):
        kept.stored(sequence, 1000 - OVERHEAD)
    again = KeptSizes(16_000)
    again.stored(9, 1000 - OVERHEAD)
    again.load(kept.pieces)
    assert [sequence for sequence, _ in again.pieces] == [*range(1, 10)]
    assert again.discard() == 0
    again.stored(1, 1000 - OVERHEAD)  # the broker counts from 1 again
    again.stored(2, 1000 - OVERHEAD)
    assert [sequence for sequence, _ in again.pieces] == [1, 2]
    later = KeptSizes(16_000)
    later.stored(2, 1000 - OVERHEAD)
    later.load(kept.pieces)  # of the lost store, behind
    assert [sequence for sequence, _ in later.pieces] == [1, 2]


def test_marks() -> None:
    marks = Bookmarks()
    assert marks.behind(0) is None
    for frame in range(5):
        marks.read(frame, frame / 10, frame / 10, 0.1)
    assert marks.behind(0) is None
    assert marks.behind(3) == MediaMark(index=3, at=0.2, now=0.2, step=0.1)
    marks.restart()
    marks.read(5, 0.0, 0.5, 0.1)
    marks.read(6, 0.0, 0.5, 0.0)  # two frames of one time: it tells neither
    assert marks.behind(6) == MediaMark(index=1, at=0.0, now=0.5, step=0.1)
    assert marks.behind(7) == MediaMark(index=2, at=None, now=0.5, step=0.0)
    again = Bookmarks()
    again.resume(6, MediaMark(index=1, at=0.0, now=0.5, step=0.1))
    assert again.behind(6) == MediaMark(index=1, at=0.0, now=0.5, step=0.1)
    again.read(6, 0.1, 0.6, 0.1)
    assert again.behind(7) == MediaMark(index=2, at=0.1, now=0.6, step=0.1)
