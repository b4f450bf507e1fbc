"""The events of one stream: which come when, what they hold, and what remains of them over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hams_services.pipeline.buckets import DWELL_S
from hams_services.pipeline.events import Delivered, EventCore, EventError
from hams_services.pipeline.flight import Close, Outcome, Shot
from hams_services.pipeline.group_events import GroupEvents
from hams_services.pipeline.open_tracks import resumed
from hams_services.pipeline.tracking.tracks import State, Track
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Message
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.regions import Regions
from hams_shared.group.spec import parse_group
from hams_shared.wire import subjects
from hams_shared.wire.codec import decode, encode
from hams_shared.wire.frames import FrameId
from hams_shared.wire.messages.events import Event, LineCounts, OpenTracks, PlaceCounts, ZoneCounts
from hams_shared.wire.messages.histogram import Histogram
from support.build import group_record, group_spec

START = datetime(2026, 11, 30, 22, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()  # a Monday
YARD = [(0.5, 0), (1, 0), (1, 1), (0.5, 1)]
"""From x = 100 on, in a picture of 200 × 100."""
REGIONS = Regions.model_validate({"zones": {"yard": YARD}, "lines": {"door": [(0.25, 1), (0.25, 0)]}})
CONFIRMED, LOST, TENTATIVE, REMOVED = State.CONFIRMED, State.LOST, State.TENTATIVE, State.REMOVED


class Scene:
    """One stream at 10 frames/s, in which one track, or some, move on a horizontal way."""

    def __init__(
        self, regions: Regions = REGIONS, conditions: Mapping[str, Any] | None = None, most: int = 8, **spec: Any
    ) -> None:
        self.core = EventCore("g", "cam", "r1", regions, EventsSpec.model_validate(spec), conditions, most)
        self.frame = -1

    def see(self, *tracks: Track, after: int = 1, media: bool = True) -> list[Event]:
        self.frame += after
        t = self.frame / 10
        shot = Delivered(self.frame, START + t, t if media else None, (200, 100))
        events = self.core.observe(shot, tracks, lambda track, zones: {"score": track.score, "zones": zones})
        self.core.validate()
        return list(events)

    def follow(self, *xs: float, id: int = 1) -> list[list[str]]:
        return [told(self.see(self.at(x, id=id))) for x in xs]

    def at(
        self,
        x: float,
        *,
        id: int = 1,
        state: State = CONFIRMED,
        found: bool | None = None,
        label: str = "person",
        score: float = 0.9,
        age_s: float = 0.0,
    ) -> Track:
        seen = state in (CONFIRMED, TENTATIVE) if found is None else found
        box = (x - 20, 10.0, x + 20, 50.0)
        return Track(id, state, box, label, score, age_s, (0.0, 0.0), 0.0, 0 if seen else None)


def told(events: list[Event]) -> list[str]:
    """The events in short: kind and what is special to it."""
    texts = []
    for e in events:
        more = [e.zone, e.line, e.direction, e.rule, e.reason, f"{e.dwell_s:.1f}" if e.dwell_s else ""]
        texts.append(" ".join([e.kind, *filter(None, more)]))
    return texts


# ── tracks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_track_is_new_once_confirmed_and_ends_once_removed() -> None:
    scene = Scene()
    assert told(scene.see(scene.at(10, state=TENTATIVE))) == []
    (new,) = scene.see(scene.at(12, age_s=0.1))
    assert new == Event(
        id="g.cam.r1.1.new",
        group="g",
        stream="cam",
        run="r1",
        kind="new",
        captured=START + 0.1,
        media_time_s=0.1,
        frame=1,
        track=1,
        label="person",
        score=0.9,
        box=(-8.0, 10.0, 32.0, 50.0),
        age_s=0.1,
    )
    assert told(scene.see(scene.at(14, state=LOST))) == []
    (end,) = scene.see(scene.at(99, state=REMOVED, age_s=5))
    assert (end.kind, end.reason, end.id, end.frame) == ("end", "lost", "g.cam.r1.1.end", 3)
    assert (end.box, end.age_s) == (new.box, 0.1), "as it was last found"


def test_one_that_was_removed_on_a_frame_that_was_not_delivered_has_ended() -> None:
    scene = Scene()
    scene.follow(10)
    assert told(scene.see()) == ["end lost"]
    assert told(scene.see()) == []


def test_one_that_was_never_confirmed_has_no_events() -> None:
    scene = Scene()
    assert told(scene.see(scene.at(10, state=TENTATIVE))) == []
    assert told(scene.see(scene.at(10, state=REMOVED))) == []
    assert scene.core.end_all("undeployed") == ()


@pytest.mark.parametrize("reason", ["stream-ended", "undeployed", "lost"])
def test_all_end_when_the_stream_does(reason: Any) -> None:
    scene = Scene()
    scene.see(scene.at(110), scene.at(10, id=2))
    assert told(list(scene.core.end_all(reason))) == ["zone_left yard", f"end {reason}", f"end {reason}"]
    assert scene.core.end_all(reason) == ()
    assert scene.core.counts().zones["yard"].inside == 0
    assert scene.core.counts().tracks == 0


def test_a_stream_that_is_not_followed_has_no_open_tracks() -> None:
    """Which is known, unlike of a pipeline of an earlier version, that does not count them."""
    assert GroupEvents(InMemoryBus(MemoryServer()), group_record()).counts("cam") == PlaceCounts(tracks=0)
    assert decode(PlaceCounts, b"\x82\xa5zones\x80\xa5lines\x80").tracks is None


async def test_a_rule_knows_no_zone_in_a_stream_without_zones() -> None:
    streams = {"door": {"source": "push", "zones": {"gate": YARD}}, "yard": {"source": "push"}}
    data = group_spec(nodes=("det",), streams=streams).model_dump(mode="json", exclude_unset=True)
    data["nodes"]["det"]["track"] = {}
    data["events"] = {"rules": {"outside": {"when": "zone != 'gate'"}}}
    record = group_record(parse_group(data))
    fired: list[str] = []

    async def on_event(message: Message) -> None:
        event = decode(Event, message.data)
        fired.extend([event.stream] if event.kind == "rule" else [])

    track = Track(1, CONFIRMED, (10.0, 40.0, 20.0, 60.0), "person", 0.9, 1.0, (0.0, 0.0), 1.0, 0)
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner:
        await bus.subscribe(subjects.event("face"), on_event)
        events = GroupEvents(bus, record)
        await events.prepare(record, owner)
        for stream in streams:
            events.open(stream, "r1", record)
            id = FrameId("face", stream, 0, 0, 1, START)
            shot = Shot(1.0, (200, 100))
            close = Close(0, Outcome.DELIVERED, objects=[], id=id, record=record, shot=shot, tracks=[track])
            await events.observe(stream, "r1", close)
        await events.stop(for_good=True)
    assert fired == ["door"]


def test_there_are_no_more_tracks_than_room() -> None:
    scene = Scene(most=2)
    assert told(scene.see(*(scene.at(10, id=id) for id in (1, 2, 3)))) == ["new", "new"]
    assert scene.core.refused == 1
    assert told(scene.see(*(scene.at(10, id=id) for id in (2, 3)))) == ["end lost", "new"]


def test_frames_out_of_order_are_a_defect() -> None:
    scene = Scene()
    scene.see(scene.at(10))
    with pytest.raises(EventError, match="frame 0 comes after frame 0"):
        scene.see(scene.at(10), after=0)
    assert told(scene.see(scene.at(10))) == []


@pytest.mark.parametrize(
    ("change", "updates"),
    [
        ({}, False),
        ({"x": 59}, False),
        ({"x": 61}, True),
        ({"label": "dog"}, True),
        ({"score": 0.1}, False),
        ({"x": 61, "state": LOST}, False),
        ({"x": 61, "found": False}, True),
    ],
)
def test_updates_tell_of_changes(change: dict[str, Any], updates: bool) -> None:
    """A box of 40 × 40 has changed much once it moved by more than 10 pixels."""
    scene = Scene(Regions(), update_s=0.5)
    scene.see(scene.at(50))
    changed = scene.at(**{"x": 50} | change)
    assert told(scene.see(changed, after=4)) == []
    events = scene.see(changed)
    assert told(events) == (["update"] if updates else [])
    assert told(scene.see(changed, after=9)) == [], "once"
    if updates:
        assert events[0].id == "g.cam.r1.1.update.1"
        assert scene.see(scene.at(90))[0].id == "g.cam.r1.1.update.2"


def test_a_zone_is_a_change_too() -> None:
    scene = Scene(update_s=0.5)
    assert scene.follow(97, 100, 95, 99, 100, 100, 100) == [
        ["new"],
        ["zone_entered yard"],
        ["zone_left yard 0.1"],
        [],
        ["zone_entered yard"],
        ["update"],
        [],
    ]


# ── zones and lines ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_zones_are_entered_dwelt_in_and_left() -> None:
    scene = Scene(dwell_s={"yard": 0.3, "gate": 1})
    assert scene.follow(90, 110, 110, 110, 110, 110, 90, 110) == [
        ["new"],
        ["zone_entered yard"],
        [],
        [],
        ["zone_dwell yard 0.3"],
        [],
        ["zone_left yard 0.5"],
        ["zone_entered yard"],
    ]
    assert scene.core.zones_of(1) == ("yard",)
    assert scene.core.zones_of(2) == ()
    stays = Histogram(edges=DWELL_S, counts=(1, *[0] * len(DWELL_S)), sum=0.5)
    assert scene.core.counts().zones == {"yard": ZoneCounts(inside=1, entries=2, exits=1, dwell_s=0.5, dwell=stays)}


def test_one_that_begins_in_a_zone_is_new_there() -> None:
    events = Scene().see(Scene().at(110))
    assert told(events) == ["new", "zone_entered yard"]
    assert [event.zones for event in events] == [("yard",), ("yard",)]
    assert [event.id for event in events] == ["g.cam.r1.1.new", "g.cam.r1.1.zone_entered.yard.1"]


def test_a_stay_ends_where_the_track_was_last_found() -> None:
    scene = Scene()
    scene.follow(110, 110, 110)
    scene.see(scene.at(90, state=LOST))
    left, end = scene.see(scene.at(90, state=REMOVED), after=100)
    assert told([left, end]) == ["zone_left yard 0.2", "end lost"]
    assert (left.zones, end.zones) == ((), ("yard",))


def test_predicted_boxes_change_no_zones_and_cross_no_lines() -> None:
    scene = Scene()
    scene.follow(90)
    assert told(scene.see(scene.at(110, found=False))) == []
    assert told(scene.see(scene.at(10, found=False))) == []
    assert told(scene.see(scene.at(10))) == ["line_crossed door out"]


def test_a_track_that_is_lost_waits_for_dwell_and_rules() -> None:
    scene = Scene(dwell_s={"yard": 0.2}, rules={"old": {"min_age_s": 0.2}})
    scene.follow(110)
    assert told(scene.see(scene.at(110, state=LOST, age_s=0.4), after=4)) == []
    assert told(scene.see(scene.at(110, age_s=0.5))) == ["zone_dwell yard 0.5", "rule old"]


def test_lines_count_both_ways() -> None:
    scene = Scene()
    assert scene.follow(40, 60, 40, 60, 49, 60) == [
        ["new"],
        ["line_crossed door in"],
        ["line_crossed door out"],
        ["line_crossed door in"],
        [],
        [],
    ]
    assert scene.core.counts().lines == {"door": LineCounts(ins=2, outs=1)}


@pytest.mark.parametrize("media", [True, False])
def test_time_goes_forward_only(media: bool) -> None:
    """By the media's clock, else by the camera's."""
    scene = Scene()
    times = (5.0, 5.25, 1.0, 1.25, 1.75)
    stays = []
    for frame, t in enumerate(times):
        shot = Delivered(frame, START + (100 * frame if media else t), t if media else None, (200, 100))
        scene.core.observe(shot, [scene.at(110)])
        stays.append(scene.core.open_tracks().tracks[0].zones[0].dwell_s)
    assert stays == [0, 0.25, 0.25, 0.5, 1.0]


# ── rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Sure:
    """A condition that counts how often it is asked."""

    asked = 0

    def holds(self, values: Mapping[str, Any]) -> bool:
        self.asked += 1
        return bool(values["score"] > 0.5 and values["zones"] == ("yard",))


@pytest.mark.parametrize(
    ("rule", "fires"),
    [
        ({}, [0]),
        ({"min_age_s": 0.3}, [3]),
        ({"zones": ["yard"]}, [2]),
        ({"zones": ["gate", "yard"], "min_age_s": 0.2}, [4]),
        ({"zones": ["gate"]}, []),
        ({"labels": ["car", "person"]}, [0]),
        ({"labels": ["car"]}, []),
        ({"hours": ["mon 22:00-05:00"]}, [0]),
        ({"hours": ["tue", "mon 21:00-22:00"]}, []),
        ({"zones": ["yard"], "labels": ["person"], "min_age_s": 0.1, "hours": ["mon"]}, [3]),
    ],
)
def test_rules_fire_once_when_all_holds(rule: dict[str, Any], fires: list[int]) -> None:
    """The track enters the yard at its third frame."""
    scene = Scene(rules={"rule": rule}, time_zone="Europe/Berlin")
    fired = []
    for number, x in enumerate((90, 90, 110, 110, 110, 110, 110)):
        events = [event for event in scene.see(scene.at(x, age_s=number / 10)) if event.kind == "rule"]
        assert [(event.rule, event.id) for event in events] in ([], [("rule", "g.cam.r1.1.rule.rule")])
        fired += [number] * len(events)
    assert fired == fires


def test_rules_fire_for_each_track_by_itself() -> None:
    scene = Scene(rules={"yard": {"zones": ["yard"]}})
    assert [e.track for e in scene.see(scene.at(110), scene.at(120, id=2)) if e.kind == "rule"] == [1, 2]


def test_conditions_are_asked_last() -> None:
    condition = Sure()
    scene = Scene(conditions={"sure": condition}, rules={"sure": {"when": "score > 0.5", "min_age_s": 0.2}, "any": {}})
    assert told(scene.see(scene.at(110))) == ["new", "zone_entered yard", "rule any"]
    assert condition.asked == 0
    assert told(scene.see(scene.at(110, age_s=0.2, score=0.4))) == []
    assert told(scene.see(scene.at(110, age_s=0.3, score=0.6))) == ["rule sure"]
    assert told(scene.see(scene.at(110, age_s=0.4, score=0.6))) == []
    assert condition.asked == 2


def test_hours_begin_while_a_track_waits() -> None:
    scene = Scene(rules={"late": {"hours": ["mon 22:01-22:02"]}}, time_zone="Europe/Berlin")
    assert told(scene.see(scene.at(10))) == ["new"]
    assert told(scene.see(scene.at(10), after=599)) == []
    assert told(scene.see(scene.at(10))) == ["rule late"]


@pytest.mark.parametrize("conditions", [{}, {"other": Sure()}, {"sure": Sure(), "plain": Sure()}])
def test_conditions_are_those_of_the_rules(conditions: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="all and no others"):
        Scene(conditions=conditions, rules={"sure": {"when": "score > 0.5"}, "plain": {}})


# ── restart ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_open_tracks_end_after_a_restart_as_they_were_last_found() -> None:
    scene = Scene()
    scene.follow(110, 90, 110)
    scene.see(scene.at(110), scene.at(10, id=2))
    events = scene.see(scene.at(115, state=LOST), scene.at(60, id=2))
    assert told(events) == ["line_crossed door in"]
    record = decode(OpenTracks, encode(scene.core.open_tracks()))
    left, *ends = resumed(record)
    assert told([left, *ends]) == ["zone_left yard 0.1", "end restart", "end restart"]
    assert left.id == "g.cam.r1.1.zone_left.yard.2"
    assert [(end.id, end.box[0], end.zones) for end in ends] == [
        ("g.cam.r1.1.end", 90, ("yard",)),
        ("g.cam.r1.2.end", 40, ()),
    ]
    assert {(end.frame, end.captured, end.media_time_s) for end in ends} == {(4, START + 0.4, 0.4)}


def test_what_was_published_after_the_record_counts() -> None:
    scene = Scene()
    record = scene.core.open_tracks()
    events = [event for x in (110, 90, 110) for event in scene.see(scene.at(x))]
    assert told(events) == ["new", "zone_entered yard", "zone_left yard 0.1", "zone_entered yard"]
    left, end = resumed(record, events)
    assert (left.id, end.id) == ("g.cam.r1.1.zone_left.yard.2", "g.cam.r1.1.end")
    assert (end.frame, end.box, end.zones) == (2, events[-1].box, ("yard",))
    assert [one.id for one in resumed(record, [*events, left])] == [end.id]
    assert resumed(record, [*events, left, end]) == ()
    assert resumed(record, [event.model_copy(update={"run": "r0"}) for event in events]) == ()


def test_a_record_made_while_nothing_happens_is_of_the_last_frame() -> None:
    scene = Scene()
    assert not scene.core.any_open
    scene.follow(110)
    for _ in range(20):
        scene.see(scene.at(110))
    assert scene.core.any_open
    left, end = resumed(scene.core.open_tracks())
    assert (told([left]), end.frame, end.captured) == (["zone_left yard 2.0"], 20, START + 2)
    scene.core.end_all("lost")
    assert not scene.core.any_open


def test_a_record_without_tracks_ends_none() -> None:
    scene = Scene()
    assert resumed(scene.core.open_tracks()) == ()
    scene.follow(10)
    scene.see()
    assert resumed(scene.core.open_tracks()) == ()
