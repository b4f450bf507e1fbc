"""Which frames are in which clip, by tables: 10 frames/s, and mostly 1 s before and after an event."""

from __future__ import annotations

import pytest

from hams_services.sinks import clip_core
from hams_services.sinks.clip_core import OPEN, SILENCE_S, SLACK_S, ClipCore, Frame
from support.clips import at, frame, taken


def played(core: ClipCore, numbers: range, run: str = "r1") -> None:
    for number in numbers:
        assert core.add_frame("s0", frame(number, run=run), number / 10)


@pytest.mark.parametrize(
    ("frames", "event", "expected"),
    [
        (60, 30, range(20, 41)),
        (60, 4, range(15)),  # fewer before
        (35, 30, range(20, 35)),  # fewer after
        (200, 150, range(140, 161)),
        (300, 170, range(189, 181)),  # the ring has none of it any more
        (10, 100, range(0)),  # ahead of the frames
    ],
)
@pytest.mark.parametrize("late", [True, False], ids=["event after frames", "event between them"])
def test_a_clip_has_the_frames_of_its_span(frames: int, event: int, expected: range, late: bool) -> None:
    core = ClipCore(1.0, 1.0)
    first = frames if late else min(event + 1, frames)
    played(core, range(first))
    core.add_event(at(event), first / 10)
    played(core, range(first, frames))
    (clip,) = core.clips
    found = taken(core, clip)
    if late or event + 100 > frames:
        assert found == [*expected]
    assert [clip.first, clip.last, clip.frames] == ([found[0], found[-1], len(found)] if found else [None, None, 0])
    core.validate()


@pytest.mark.parametrize(
    ("events", "clips"),
    [
        ([30], [[30]]),
        ([30, 35], [[30, 35]]),
        ([30, 40], [[30, 40]]),  # in the last frame of the other
        ([30, 41], [[30], [41]]),
        ([30, 40, 50, 60, 70], [[30, 40, 50, 60, 70]]),
        ([30, 30], [[30, 30]]),
        ([*range(30, 60, 5), 61, 66, 85], [[*range(30, 60, 5), 61, 66], [85]]),
    ],
)
def test_events_that_follow_closely_extend_a_clip(events: list[int], clips: list[list[int]]) -> None:
    core = ClipCore(1.0, 1.0)
    for number in range(120):
        played(core, range(number, number + 1))
        for sequence, event in enumerate(events):
            if event == number:
                core.add_event(at(event, sequence + 1), number / 10)
    assert [[event.frame for event in clip.events] for clip in core.clips] == clips
    for clip, inside in zip(list(core.clips), clips, strict=True):
        assert taken(core, clip) == [*range(inside[0] - 10, inside[-1] + 11)]


def test_a_clip_does_not_become_too_long() -> None:
    core = ClipCore(1.0, 1.0, longest_s=6.0)
    for number in range(200):
        played(core, range(number, number + 1))
        if number >= 10:
            core.add_event(at(number), number / 10)
        core.validate()
    assert [clip.begin for clip in core.clips] == pytest.approx([0.0, 4.1, 8.2, 12.3, 16.4])
    assert [clip.end for clip in core.clips] == pytest.approx([6.0, 10.1, 14.2, 18.3, 20.9])
    assert sum(len(clip.events) for clip in core.clips) == 190


def test_another_run_ends_clips_and_has_its_own() -> None:
    core = ClipCore(1.0, 1.0)
    played(core, range(30))
    core.add_event(at(28), 3.0)
    core.add_event(at(1, run="r2"), 3.0)  # comes before the first frame of its run
    played(core, range(20), run="r2")
    core.add_event(at(29, run="r1", kind="end", reason="restart"), 5.0)
    old, new, late = core.clips
    assert old.stop is not None
    assert late.stop is not None
    assert [taken(core, clip) for clip in (old, new, late)] == [[*range(18, 30)], [*range(12)], [*range(19, 30)]]


def test_a_stream_that_is_silent_ends_its_clips() -> None:
    core = ClipCore(1.0, 2.0)
    played(core, range(31))
    core.add_event(at(30), 3.0)
    (clip,) = core.clips
    core.tick(3.0 + 2.0 + SILENCE_S)
    assert clip.stop is None
    core.tick(3.1 + 2.0 + SILENCE_S)
    assert clip.stop is not None
    played(core, range(31, 35))
    assert taken(core, clip) == [*range(20, 31)]
    core.forget(clip)
    core.tick(1000.0)
    assert not core._rings  # a stream that is gone costs nothing


def test_when_it_is_closed_frames_that_are_there_are_taken() -> None:
    core = ClipCore(1.0, 5.0)
    played(core, range(31))
    core.add_event(at(30), 3.0)
    core.close()
    played(core, range(31, 40))
    assert taken(core, core.clips[0]) == [*range(20, 31)]


def test_what_a_slow_writer_did_not_take_is_counted() -> None:
    core = ClipCore(1.0, 2.0, ring_bytes=15 * frame(0).size)
    played(core, range(31))
    core.add_event(at(30), 3.0)
    (clip,) = core.clips
    assert [core.take(clip).number for _ in range(3)] == [20, 21, 22]  # type: ignore[union-attr]
    played(core, range(31, 45))  # 23 to 29 leave the ring meanwhile
    assert taken(core, clip) == [*range(30, 45)]
    assert clip.lost == 7
    core.validate()


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_the_ring_is_bounded_in_bytes_and_seconds(size: int) -> None:
    core = ClipCore(1.0, 1.0, ring_bytes=10_000)
    for number in range(500):
        core.add_frame("s0", frame(number, size=size), 0.0)
        core.validate()
    held = core._rings["s0"].frames
    assert len(held) == min(10_000 // frame(0, size=size).size, int((1.0 + SLACK_S) * 10) + 1)


def test_frames_that_are_no_news_are_left_out() -> None:
    core = ClipCore(1.0, 1.0)
    played(core, range(10))
    assert not core.add_frame("s0", frame(9), 0.0)
    assert not core.add_frame("s0", frame(3), 0.0)
    assert core.add_frame("s0", frame(10, time=0.2), 0.0)  # its clock was set back
    assert core._rings["s0"].time == 0.9
    assert core.add_frame("s0", frame(0, run="r2"), 0.0)
    core.validate()


def test_a_run_before_goes_when_the_present_one_is_as_long_as_the_ring() -> None:
    core = ClipCore(0.0, 1.0)
    played(core, range(5), run="r1")
    played(core, range(int(SLACK_S * 10) + 1), run="r2")
    assert {one.run for one in core._rings["s0"].frames} == {"r1", "r2"}
    core.add_frame("s0", Frame("r2", 1000, SLACK_S + 0.1, b""), 0.0)
    assert {one.run for one in core._rings["s0"].frames} == {"r2"}


def test_clips_at_a_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    core = ClipCore(0.0, 1.0)
    for number in range(0, 400, 20):  # read after an absence: of none are frames there
        core.add_event(at(number), 0.0)
        core.validate()
    assert [clip.stop is None for clip in core.clips] == [False] * (20 - OPEN) + [True] * OPEN
    monkeypatch.setattr(clip_core, "JOINED", 3)
    core = ClipCore(1.0, 1.0)
    for number in range(7):
        core.add_event(at(number), 0.0)
    assert [len(clip.events) for clip in core.clips] == [3, 3, 1]


def test_what_is_settled() -> None:
    core = ClipCore(0.0, 1.0)
    core.pass_by(4)
    assert core.settled == 4
    core.add_event(at(0, sequence=6), 0.0)
    core.add_event(at(50, sequence=7, stream="s1"), 0.0)
    core.pass_by(9)
    assert core.settled == 5
    core.forget(core.clips[0])
    assert core.settled == 6
    core.forget(core.clips[0])
    assert core.settled == 9


def test_crops_of_events_are_not_kept() -> None:
    core = ClipCore(0.0, 1.0)
    core.add_event(at(0, crop=b"\xff\xd8"), 0.0)
    assert core.clips[0].events[0].crop is None


def test_a_clip_is_complete_with_the_first_frame_beyond_its_end() -> None:
    core = ClipCore(1.0, 1.0)
    played(core, range(31))
    core.add_event(at(30), 3.0)
    played(core, range(31, 41))
    assert core.complete == 0
    played(core, range(41, 42))
    assert core.complete == 1
