"""Whatever tracks do, and whenever the pipeline dies: each begins once and ends once, for whoever reads the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hams_services.pipeline.events import Delivered, EventCore
from hams_services.pipeline.open_tracks import resumed
from hams_services.pipeline.tracking.bytetrack import Detections, Settings, Tracker
from hams_services.pipeline.tracking.tracks import State, Track
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.regions import Regions
from hams_shared.wire.codec import decode, encode
from hams_shared.wire.messages.events import Event, OpenTracks

NIGHT = datetime(2026, 11, 29, 22, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
STILL = ((0.0, 0.0), 0.0)
SIDE = 64
ROOM = 24
REGIONS = [
    Regions.model_validate({"zones": zones, "lines": {"door": [(0.5, 0), (0.5, 1)], "sill": [(0.2, 0.5), (0.7, 0.5)]}})
    for zones in (
        {
            "yard": [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)],
            "angle": [(0, 0), (1, 0), (1, 0.25), (0.25, 0.25), (0.25, 1), (0, 1)],
        },
        {"left": [(0, 0), (0.5, 0), (0.5, 1), (0, 1)], "right": [(0.5, 0), (1, 0), (1, 1), (0.5, 1)]},
    )
]
SPEC = EventsSpec.model_validate({
    "rules": {
        "soon": {"min_age_s": 0.2},
        "car": {"labels": ["car"], "when": "even"},
        "stay": {"zones": ["yard", "left"], "min_age_s": 0.3},
        "night": {"hours": ["22:00-05:00"]},
    },
    "dwell_s": {"yard": 0.3, "left": 0.5},
    "time_zone": "Europe/Berlin",
    "update_s": 0.4,
})  # fmt: skip


class Even:
    def holds(self, values: Mapping[str, Any]) -> bool:
        return bool(values["track"] % 2 == 0)


def core(run: int, regions: Regions) -> EventCore:
    return EventCore("g", "cam", f"r{run}", regions, SPEC, {"car": Even()}, max_objects=ROOM - 2)


def values(track: Track, zones: tuple[str, ...]) -> Mapping[str, Any]:
    return {"track": track.id}


# ── who reads the events ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Life:
    """What a reader knows of a track."""

    zones: set[str] = field(default_factory=set)
    dwelt: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)
    ended: bool = False


@dataclass
class Reader:
    """It gets each event once or more often, and what it knows must never contradict itself."""

    seen: dict[str, Event] = field(default_factory=dict)
    lives: dict[tuple[str, int], Life] = field(default_factory=dict)
    counts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    dwell_s: dict[tuple[str, str], float] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        if event.id in self.seen:
            assert self.seen[event.id] == event, "two events have one id"
            return
        self.seen[event.id] = event
        key, kind = (event.run, event.track), event.kind
        if kind == "new":
            assert key not in self.lives
            self.lives[key] = Life()
            return
        life = self.lives[key]
        assert not life.ended
        if kind == "end":
            assert event.reason
            assert not life.zones
            life.ended = True
        elif kind == "zone_entered":
            assert event.zone not in life.zones
            assert event.zone in event.zones
            life.zones.add(event.zone)
            life.dwelt.discard(event.zone)
            self.count(event.run, "in", event.zone)
        elif kind == "zone_left":
            life.zones.remove(event.zone)
            self.count(event.run, "out", event.zone)
            at = (event.run, event.zone)
            self.dwell_s[at] = self.dwell_s.get(at, 0.0) + event.dwell_s
            assert event.dwell_s >= 0
        elif kind == "zone_dwell":
            assert event.zone in life.zones - life.dwelt
            assert event.dwell_s >= SPEC.dwell_s.get(event.zone, 0.3) - 1e-3
            life.dwelt.add(event.zone)
        elif kind == "line_crossed":
            self.count(event.run, event.direction, event.line)
        elif kind == "rule":
            assert event.rule not in life.rules
            life.rules.add(event.rule)

    def count(self, run: str, way: str, place: str) -> None:
        self.counts[run, way, place] = self.counts.get((run, way, place), 0) + 1

    def agrees(self, events: EventCore) -> None:
        counts, run = events.counts(), events.open_tracks().run
        for name, zone in counts.zones.items():
            assert zone.entries == self.counts.get((run, "in", name), 0)
            assert zone.exits == self.counts.get((run, "out", name), 0)
            assert zone.dwell_s == pytest.approx(self.dwell_s.get((run, name), 0.0))
            assert zone.inside == sum(name in one.zones for (of, _), one in self.lives.items() if of == run)
        for name, line in counts.lines.items():
            assert line.ins == self.counts.get((run, "in", name), 0)
            assert line.outs == self.counts.get((run, "out", name), 0)


# ── a pipeline that dies ──────────────────────────────────────────────────────────────────────────────────────────────


class DeathError(Exception):
    """The pipeline was killed."""


class Shell:
    """As the pipeline's: it publishes, and stores a record now and then; but it may die before, between and after."""

    def __init__(self, random: Random, regions: Regions) -> None:
        self.random, self.regions, self.reader = random, regions, Reader()
        self.runs = 0
        self.begin()

    def begin(self) -> None:
        self.runs += 1
        self.core = core(self.runs, self.regions)
        self.store()

    def store(self) -> None:
        self.record, self.later = self.core.open_tracks(), list[Event]()

    def hand(self, events: tuple[Event, ...], *, doomed: bool = False) -> None:
        """Publish the events of a frame, and store perhaps; who is `doomed` dies at it."""
        if doomed and self.random.random() < 0.2:
            raise DeathError
        self.publish(events, doomed=doomed)
        if doomed:
            raise DeathError
        if self.random.random() < 0.2:
            self.store()

    def publish(self, events: tuple[Event, ...], *, doomed: bool) -> None:
        for event in events[: self.random.randrange(len(events) + 1) if doomed else None]:
            self.reader.take(event)
            self.later.append(event)

    def resume(self) -> None:
        """Begin the next run; the first try may end early."""
        record = decode(OpenTracks, encode(self.record))
        for doomed in (self.random.random() < 0.3, False):
            self.publish(resumed(record, self.later), doomed=doomed)
        self.begin()


# ── tracks that do anything ───────────────────────────────────────────────────────────────────────────────────────────

PLACES = [0, 8, 14, 15, 16, 17, 19, 30, 31, 32, 33, 35, 40, 47, 48, 49, 51, 64]
"""Of feet, pixels: on borders and lines, and nearer and farther than the margin."""
BOXES = [(x - 5.0, y - 20.0, x + 5.0, float(y)) for x in PLACES for y in PLACES]


def frames(random: Random, count: int) -> Iterator[list[Track]]:
    """Yield what a tracker could return of each frame, in any order of states; ids are never given again."""
    ends, stays = random.choice((0.1, 0.6, 0.7)), random.choice((0.3, 0.8, 0.9))
    live: dict[int, Track] = {}
    last = 0
    for _ in range(count):
        tracks = []
        for id, track in live.items():
            chance = random.random()
            state = State.REMOVED if chance < ends else State.LOST if chance < ends + 0.1 else State.CONFIRMED
            seen = chance > ends + 0.2
            box = track.box if random.random() < stays else random.choice(BOXES)
            label = "truck" if chance > 0.95 else "car"
            tracks.append(Track(id, state, box, label, 0.9, track.age_s + 0.1, *STILL, id if seen else None))
        live = {track.id: track for track in tracks if track.state is not State.REMOVED}
        if random.random() < 0.3:
            tracks = list(live.values())
        while len(live) < ROOM and random.random() < 0.9:
            last += 1
            state = State.TENTATIVE if random.random() < 0.2 else State.CONFIRMED
            live[last] = Track(last, state, random.choice(BOXES), "car", 0.9, 0.0, *STILL, last)
            tracks.append(live[last])
        yield tracks


def shot(random: Random, last: Delivered | None) -> Delivered:
    """Return a next frame: some are missing, clocks stand still or are set back, and the picture's size changes."""
    if last is None:
        return Delivered(0, NIGHT - 5, random.choice((None, 0.0)), (SIDE, SIDE))
    step = random.choice((0.1, 0.1, 0.1, 0.3, 0.0, -0.5))
    media = None if last.media_time_s is None else last.media_time_s + step
    size = (SIDE, SIDE) if random.random() < 0.95 else (2 * SIDE, SIDE)
    return Delivered(last.frame + random.choice((1, 1, 2)), last.captured + step, media, size)


def sequence(seed: int) -> tuple[int, int]:
    """Play one stream; return how many tracks had a `new`, and how often the pipeline died."""
    random = Random(seed)
    shell = Shell(random, random.choice(REGIONS))
    last: Delivered | None = None
    given: list[tuple[Delivered, list[Track]]] = []
    told: list[Event] = []
    doomed, live = False, set[int]()
    for tracks in frames(random, 60):
        last = shot(random, last)
        if random.random() < 0.05:
            continue  # the frame is not delivered
        now, doomed = doomed, random.random() < 0.03
        live = {track.id for track in tracks if track.state in (State.CONFIRMED, State.LOST)}
        events = shell.core.observe(last, tracks, values)
        given.append((last, tracks))
        told += events
        try:
            shell.hand(events, doomed=now)
        except DeathError:
            shell.resume()
            given, told = [], []
    shell.core.validate()
    shell.reader.agrees(shell.core)
    assert {one.track for one in shell.core.open_tracks().tracks} <= live
    if not seed % 5:
        again = core(shell.runs, shell.regions)
        assert [event for frame, tracks in given for event in again.observe(frame, tracks, values)] == told
    if random.random() < 0.5:
        shell.hand(shell.core.end_all("stream-ended"))
    else:
        shell.resume()
    assert all(life.ended for life in shell.reader.lives.values()), "one has no end"
    return len(shell.reader.lives), shell.runs


@pytest.mark.parametrize("sequences", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_each_track_begins_and_ends_once_through_every_death_of_the_pipeline(sequences: int) -> None:
    tracks = runs = seed = 0
    while tracks < sequences:
        more, lived = sequence(seed)
        tracks, runs, seed = tracks + more, runs + lived, seed + 1
    assert runs > 2 * seed


CORNERS = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.25, 0.5), (0.75, 0.25), (0.5, 0.75)]


def other(random: Random) -> tuple[Regions, EventsSpec]:
    """Places and rules that a group may be changed to; those of a name that comes again may be elsewhere."""
    zones = {}
    for name in random.sample(["yard", "left", "right", "angle"], random.randrange(5)):
        a, b, c = random.sample(CORNERS, 3)
        if abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) > 0.01:
            zones[name] = [a, b, c]
    lines = {name: random.sample(CORNERS, 2) for name in random.sample(["door", "sill"], random.randrange(3))}
    named = SPEC.rules.items()
    rules = {
        name: {**rule.model_dump(), "zones": [z for z in rule.zones if z in zones]}
        for name, rule in named
        if random.random() < 0.6
    }
    dwell_s = {name: SPEC.dwell_s.get(name, 0.3) for name in zones if random.random() < 0.6}
    spec = SPEC.model_dump() | {"rules": rules, "dwell_s": dwell_s, "update_s": random.choice((0.1, 0.4))}
    return Regions.model_validate({"zones": zones, "lines": lines}), EventsSpec.model_validate(spec)


def test_places_and_rules_may_change_at_any_time_while_tracks_go_on() -> None:
    changes = 0
    for seed in range(60):
        random, reader, last = Random(seed), Reader(), None
        events = core(1, random.choice(REGIONS))
        for tracks in frames(random, 40):
            last = shot(random, last)
            if random.random() < 0.2:
                changes += 1
                regions, spec = other(random)
                conditions = {"car": Even()} if "car" in spec.rules else {}
                for event in events.change(regions, spec, conditions, random.choice((ROOM - 2, 8))):
                    reader.take(event)
                events.validate()
            for event in events.observe(last, tracks, values):
                reader.take(event)
            events.validate()
            inside = {name: zone.inside for name, zone in events.counts().zones.items()}
            assert inside == {name: sum(name in one.zones for one in reader.lives.values()) for name in inside}
            assert events.counts().tracks == sum(not one.ended for one in reader.lives.values())
            assert {zone for one in reader.lives.values() for zone in one.zones} <= inside.keys()
        for event in events.end_all("undeployed"):
            reader.take(event)
        assert all(life.ended for life in reader.lives.values())
    assert changes > 200


def test_the_tracks_of_the_real_tracker_do_the_same() -> None:
    for seed in range(20):
        random, reader = Random(seed), Reader()
        events = core(1, REGIONS[seed % 2])
        tracker = Tracker(Settings(max_lost_s=0.5))
        for number in range(60):
            found = [(random.choice(BOXES), random.choice((0.2, 0.6, 0.95)), "car") for _ in range(random.randrange(5))]
            t = number / 10
            tracks = tracker.update(Detections.of(found), t) if number % 3 else tracker.predict_to(t)
            for event in events.observe(Delivered(number, NIGHT + t, t, (SIDE, SIDE)), tracks, values):
                reader.take(event)
            events.validate()
        reader.agrees(events)
        for event in events.end_all("undeployed"):
            reader.take(event)
        assert reader.lives
        assert all(life.ended for life in reader.lives.values())
