"""What reading a video costs is measured before the groups that play it are placed."""

from __future__ import annotations

import pytest

from hams_scheduler import videos
from hams_scheduler.served_speed import VGA
from hams_scheduler.videos import Videos
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import ReadCost
from support.build import group_record, group_spec

FILE = {"source": "/videos/a.mp4"}


def playing(**streams: dict[str, object]) -> GroupRecord:
    return group_record(group_spec("face", streams=streams))


def test_each_video_is_measured_once_however_many_play_it() -> None:
    known = Videos()
    record = playing(a=FILE, b=FILE, c={"source": "/videos/b.mp4"}, d={"source": "rtsp://cam/1"}, e={"source": "push"})
    first, second = known.start_due([record, record])
    assert {first.stream.source, second.stream.source} == {"/videos/a.mp4", "/videos/b.mp4"}
    assert known.start_due([record]) == []
    assert known.missing([record])
    known.measured(first.key, ReadCost(cpu_ms=4.0, pixels=1280 * 720))
    known.measured(second.key, ReadCost())
    assert not known.missing([record])
    assert known.start_due([record]) == []
    assert known.cost(first.stream, 0.001) == 0.004
    assert known.cost(second.stream, 0.001) == 0.001  # not known
    assert known.pixels(playing(a=FILE)) == 1280 * 720
    assert known.pixels(record) == (2 * 1280 * 720 + 3 * VGA) / 5
    assert known.pixels(playing()) == VGA


def test_key_frames_only_are_another_cost() -> None:
    record = playing(a=FILE, b={**FILE, "decode": {"every": "keyframe"}})
    assert len(Videos().start_due([record])) == 2


def test_a_pipeline_that_was_started_is_asked_about_what_is_not_known() -> None:
    known, record = Videos(), playing(a=FILE, b={"source": "/videos/b.mp4"})
    known.pipeline_seen("one")
    for command, cost in zip(known.start_due([record]), (0.0, 2.0), strict=True):
        known.measured(command.key, ReadCost(cpu_ms=cost))
    known.pipeline_seen("one")
    assert known.start_due([record]) == []
    known.pipeline_seen("two")
    assert [command.stream.source for command in known.start_due([record])] == ["/videos/a.mp4"]


def test_what_is_kept_of_videos_that_nobody_plays_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "KNOWN_LIMIT", 3)
    known = Videos()
    for number in range(9):
        known.measured(f"{number}", ReadCost(cpu_ms=1.0))
    assert known.start_due([]) == []
    assert list(known.costs) == ["6", "7", "8"]


def test_more_videos_than_are_kept_can_be_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "KNOWN_LIMIT", 3)
    known = Videos()
    streams: dict[str, dict[str, object]] = {f"s{number}": {"source": f"/videos/{number}.mp4"} for number in range(5)}
    record = playing(**streams)
    known.measured("gone", ReadCost(cpu_ms=1.0))
    for command in known.start_due([record]):
        known.measured(command.key, ReadCost(cpu_ms=2.0))
    assert known.start_due([record]) == []
    assert not known.missing([record])
    assert "gone" not in known.costs
    assert known.cost(record.spec.streams["s0"], 0.001) == 0.002
