"""Counts by place and label, from events that come twice, too late, or never."""

from __future__ import annotations

import pytest

from hams_client import Event
from hams_services.sinks.mqtt.core import GONE, BridgeCore
from hams_services.sinks.mqtt.occupancy import ANY, LABELS, LOOKS, PICTURE, TRACKS, Occupancy
from hams_services.sinks.mqtt.topics import Topics
from hams_shared.wire.messages.pipeline import PipelineView
from support.mqtt_site import happened, scheduler_view, stream_view, yard

ENTERED = happened("zone_entered", 1, zone="a", zones=("a",))


def test_an_event_that_comes_twice_counts_once() -> None:
    occupancy = Occupancy()
    for _ in range(2):
        occupancy.take(ENTERED)
    assert occupancy.counts("cam") == {(PICTURE, ANY): 1, (PICTURE, "person"): 1, ("a", ANY): 1, ("a", "person"): 1}
    occupancy.take(happened("zone_left", 1, zone="a"))
    assert occupancy.counts("cam") == {(PICTURE, ANY): 1, (PICTURE, "person"): 1}
    occupancy.take(happened("end", 1))
    assert not occupancy.counts("cam")


def test_a_new_run_ends_the_tracks_of_the_old_one() -> None:
    occupancy = Occupancy()
    occupancy.take(ENTERED)
    occupancy.take(happened("new", 1, run="r2"))
    assert occupancy.counts("cam")[PICTURE, ANY] == 1
    assert occupancy.counts("cam")["a", ANY] == 0
    occupancy.take(happened("end", 1, run="r1"))  # late: of a track that is forgotten
    assert occupancy.counts("cam")[PICTURE, ANY] == 1


def test_the_pipelines_count_corrects_what_was_missed() -> None:
    occupancy = Occupancy()
    for track in (1, 2, 3):
        occupancy.take(happened("zone_entered", track, zone="a", zones=("a",)))
    for _ in range(LOOKS - 1):
        occupancy.correct("cam", "a", 1)
    occupancy.correct("cam", "a", 3)  # right in between: it was a matter of timing
    for _ in range(LOOKS - 1):
        occupancy.correct("cam", "a", 1)
    assert occupancy.counts("cam")["a", ANY] == 3
    occupancy.correct("cam", "a", 1)
    assert [one.track for one in occupancy.position(0).tracks] == [3]  # the others were silent for longer
    occupancy.correct("cam", "a", 5)
    assert occupancy.counts("cam")["a", ANY] == 1


def test_events_that_change_no_count_hold_no_correction_up() -> None:
    """A scene in which somebody always moves: otherwise a track whose `end` was lost would stay as long as it does."""
    occupancy = Occupancy()
    for track in (1, 2):
        occupancy.take(happened("zone_entered", track, zone="a", zones=("a",)))
    for _ in range(LOOKS):
        occupancy.take(happened("update", 2, zones=("a",)))
        occupancy.correct("cam", "a", 1)
    assert [one.track for one in occupancy.position(0).tracks] == [2]


@pytest.mark.parametrize(
    "change", [happened("new", 3), happened("end", 2), happened("new", 1, run="r2")], ids=["new", "end", "run"]
)
def test_the_whole_picture_is_corrected_only_when_no_track_comes_or_goes(change: Event) -> None:
    occupancy = Occupancy()
    for track in (1, 2):
        occupancy.take(happened("new", track))
    for _ in range(LOOKS - 1):
        occupancy.correct("cam", PICTURE, 0)
    occupancy.take(change)
    count = occupancy.counts("cam")[PICTURE, ANY]
    for _ in range(LOOKS - 1):
        occupancy.correct("cam", PICTURE, 0)
    assert occupancy.counts("cam")[PICTURE, ANY] == count
    occupancy.correct("cam", PICTURE, 0)
    assert occupancy.counts("cam")[PICTURE, ANY] == 0


def looked(tracks: int | None, *, behind: bool = False, times: int = LOOKS) -> dict[str, bytes]:
    """Return what is retained of a camera whose `end` of the one track, in no zone, was lost."""
    core = BridgeCore(Topics())
    core.look(scheduler_view(yard()), PipelineView(streams=(stream_view(),)), 0.0)
    core.take(happened("new", 1))
    for look in range(times):
        view = PipelineView(streams=(stream_view(tracks=tracks),))
        core.look(scheduler_view(yard()), view, 2.0 * look, behind=behind)
    found = core.desired(100.0)
    return {topic.removeprefix("hams/yard/cam/"): payload for topic, payload in found.items() if "/cam/" in topic}


def test_a_track_in_no_zone_whose_end_was_lost_is_forgotten() -> None:
    found = looked(0)
    assert (found["occupancy"], found["count"]) == (b"OFF", b"0")
    assert (found["label/person/occupancy"], found["label/person/count"]) == (b"OFF", b"0")


@pytest.mark.parametrize(
    ("tracks", "behind", "times"),
    [(1, False, 9), (2, False, 9), (None, False, 9), (0, False, LOOKS - 1), (0, True, 9)],
    ids=["right", "too few", "earlier pipeline", "for a moment", "events wait"],
)
def test_a_track_in_no_zone_that_may_be_open_stays(tracks: int | None, behind: bool, times: int) -> None:
    found = looked(tracks, behind=behind, times=times)
    assert (found["occupancy"], found["count"]) == (b"ON", b"1")


def test_zones_are_corrected_before_the_whole_picture() -> None:
    """The track that the zone has lost is the one that the picture has lost, though another was silent for longer."""
    core = BridgeCore(Topics())
    views = PipelineView(streams=(stream_view(inside={"entrance": 0}, tracks=1),))
    core.look(scheduler_view(yard()), PipelineView(streams=()), 0.0)
    core.take(happened("new", 1))
    core.take(happened("zone_entered", 2, zone="entrance", zones=("entrance",)))
    for _ in range(LOOKS):
        core.look(scheduler_view(yard()), views, 0.0)
    core.dealt_with("yard", 1)
    assert b'"track":1' in core.desired(0.0)["hams/yard/bridge"]


def test_tracks_and_labels_are_bounded() -> None:
    occupancy = Occupancy()
    for track in range(TRACKS + 10):
        label = f"label{track}"
        occupancy.take(happened("new", track).model_copy(update={"label": label}))
    assert occupancy.counts("cam")[PICTURE, ANY] == TRACKS
    assert len(occupancy.labels("cam")) == LABELS
    assert occupancy.position(7).after == 7


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"\xff", b'{"after": -1}', b'{"after": "x"}', b'{"tracks": [1]}', b'{"labels": {"cam": 1}}'],
)
def test_a_position_that_is_none_is_left_out(payload: bytes) -> None:
    core = BridgeCore(Topics())
    assert core.adopt({"hams/yard/bridge": payload, "hams/a/b/c": b"", "hams/x": b""}) == {"hams/yard/bridge": payload}
    core.look(scheduler_view(yard()), PipelineView(streams=(stream_view(),)), 0.0)
    assert core.after("yard") is None


def test_groups_that_were_named_and_are_not_deployed() -> None:
    core = BridgeCore(Topics(), ["yard", "yrad"])
    for _ in range(GONE):
        assert core.missing == ()
        core.look(scheduler_view(yard(), yard("door")), PipelineView(streams=()), 0.0)
    assert (core.missing, core.groups) == (("yrad",), ("yard",))
