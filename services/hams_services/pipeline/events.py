"""The events of one stream: its tracks, what they do in zones and at lines, and the rules of its group. Pure.

:class:`EventCore` takes the tracks of each delivered frame, in the frames' order, and returns events. Each track that
was ever confirmed has one `new` and one `end`; it enters and leaves each zone in turns, and leaves all before its end;
each rule fires once for it at most.

Time is that of the video (else of the capture), and only goes forward: where a clock is set back, none passes. A track
that the detector looked for and missed keeps all as it was until it is found again, or ends. Then it was last where and
when it was last found, and its stays in zones are counted up to there.

**Ids** of events are made of what they say: ``<group>.<stream>.<run>.<track>.<kind>`` and, where a track may have more
of the kind, a name and a number. So the same frames give the same ids, and an event that is published again, by this
process or by the next, has the id that it had.

**Restart.** The shell stores :meth:`EventCore.open_tracks` now and then, after the events so far. The next pipeline
publishes what :func:`open_tracks.resumed` makes of the record and of the events published after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from hams_services.pipeline.buckets import DWELL_S, Buckets
from hams_services.pipeline.open_tracks import Open
from hams_services.pipeline.rules import SLACK_S, Condition, Rule, Rules
from hams_services.pipeline.tracking.tracks import State, Track
from hams_services.pipeline.zones import Lines, Places, Size, Zones
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.regions import Regions
from hams_shared.wire.messages.events import (
    Event,
    EventKind,
    LineCounts,
    OpenTracks,
    PlaceCounts,
    ZoneCounts,
)

Reason = Literal["lost", "no-frames", "stream-ended", "undeployed"]

Values = Callable[[Track, tuple[str, ...]], Mapping[str, Any]]
"""Makes what conditions read of a track and its zones. It is called for tracks for which a `when` decides, and only
then."""

FOLLOWED = (State.CONFIRMED, State.LOST)

Happening = tuple[EventKind, Open, str, dict[str, Any]]
"""What happened to a track: its kind, the end of the event's id, and the fields that only this kind has."""


class EventError(AssertionError):
    """Frames came out of order, or the state contradicts itself: a defect, never a condition of the outside world."""


class Delivered(NamedTuple):
    """One delivered frame."""

    frame: int
    captured: float
    """Unix time, s."""
    media_time_s: float | None
    """Since the stream's first frame, s."""
    size: Size
    """Width and height, pixels."""
    traceparent: str = ""
    """Of a traced frame."""


@dataclass(slots=True)
class Count:
    """What happened in one zone, or at one line (in, out)."""

    entries: int = 0
    exits: int = 0
    dwell_s: float = 0.0
    dwell: Buckets = field(default_factory=lambda: Buckets(DWELL_S))

    def zone(self) -> ZoneCounts:
        """As a message, of a zone."""
        inside, stays = self.entries - self.exits, self.dwell.histogram
        return ZoneCounts(inside=inside, entries=self.entries, exits=self.exits, dwell_s=self.dwell_s, dwell=stays)


class EventCore:
    """The events of one stream in one run of it."""

    def __init__(
        self,
        group: str,
        stream: str,
        run: str,
        regions: Regions,
        spec: EventsSpec,
        conditions: Mapping[str, Condition] | None = None,
        max_objects: int = 256,
    ) -> None:
        """Begin without tracks.

        `run` is unique of all runs of the stream; `regions` are those of its spec; `conditions` are the compiled `when`
        of rules, by the rules' names; more than `max_objects` tracks (TrackSpec) are not taken, see :attr:`refused`.

        Raises:
            ValueError: see :class:`rules.Rules`.
        """
        self._run: dict[str, Any] = {"group": group, "stream": stream, "run": run}
        self._of_frame: dict[str, Any] = {}
        """What all events of the last frame have."""
        self._begin_of_ids = f"{group}.{stream}.{run}."
        self.refused = 0
        """Times that a new track found no room in a frame."""
        self._update_s = spec.update_s - SLACK_S
        self._dwell_s = {zone: dwell_s - SLACK_S for zone, dwell_s in spec.dwell_s.items()}
        self._rules = Rules(spec, conditions or {})
        self._places = Places(Zones(regions.zones), Lines(regions.lines), max_objects)
        self._free = list(range(max_objects))[::-1]
        """Slots."""
        self._open: dict[int, Open] = {}
        """By track."""
        self._zones = {name: Count() for name in regions.zones}
        self._lines = {name: Count() for name in regions.lines}
        self._shot = Delivered(-1, 0.0, None, (1, 1))
        """The last frame."""
        self._now = 0.0
        """Time since the first frame, s; see above."""

    def change(
        self,
        regions: Regions,
        spec: EventsSpec,
        conditions: Mapping[str, Condition] | None = None,
        max_objects: int = 256,
    ) -> tuple[Event, ...]:
        """Have other places and rules count from the next frame on; return how tracks leave zones that are gone.

        Tracks stay open, and in zones of the same name, until a detection shows them outside. A rule that fired for a
        track, by its name, does not fire again. Counts of places of the same names go on.
        """
        dwell_s = {zone: one - SLACK_S for zone, one in spec.dwell_s.items()}
        tracks = list(self._open.values())
        events = [
            self._event(kind, one.track, tuple(z for z in one.zones if z in regions.zones), id, **more)
            for one in tracks
            for zone in one.zones
            if zone not in regions.zones
            for kind, _, id, more in [self._leave(one, zone, one.found)]
        ]
        rules = Rules(spec, conditions or {})
        most = max(max_objects, len(tracks))
        places = Zones(regions.zones), Lines(regions.lines)
        self._places = self._places.changed(*places, most, [one.slot for one in tracks])
        for slot, one in enumerate(tracks):
            one.slot = slot
            one.zones = tuple(name for name in regions.zones if name in one.since)
            one.rules = tuple(rule for rule in rules.all if rule.name not in one.fired)
            waits = dwell_s.keys() - one.dwelt
            one.due = {zone: one.since[zone] + dwell_s[zone] for zone in one.zones if zone in waits}
        self._free = list(range(len(tracks), most))[::-1]
        self._update_s, self._dwell_s, self._rules = spec.update_s - SLACK_S, dwell_s, rules
        self._zones = {name: self._zones.get(name) or Count() for name in regions.zones}
        self._lines = {name: self._lines.get(name) or Count() for name in regions.lines}
        return tuple(events)

    def observe(self, shot: Delivered, tracks: Sequence[Track], values: Values = lambda *_: {}) -> tuple[Event, ...]:
        """Take all tracks of the next delivered frame, as the tracker returned them; return what happened, in order.

        Those that were open and are not among them have ended: on a frame that was not delivered.

        Raises:
            EventError: the frame is not later than the last one.
        """
        self._advance(shot)
        live = {track.id: track for track in tracks if track.state in FOLLOWED}
        events = [event for id in [id for id in self._open if id not in live] for event in self._end(id, "lost")]
        new, moved, looked = [], [], []
        for track in live.values():
            one = self._open.get(track.id)
            if one is None:
                if not self._free:
                    self.refused += 1
                    continue
                new.append(one := self._begin(track))
                moved.append(one)
            elif track.detection is not None:
                one.track, one.found = track, self._now
                moved.append(one)
            if track.state is State.CONFIRMED and (one.due or one.rules or self._now >= one.update_at):
                looked.append((one, track))
        happened = self._move(moved)
        for one in new:
            one.sent_zones = one.zones
            events.append(self._event("new", one.track, one.zones, ""))
        events += [self._event(kind, one.track, one.zones, id, **more) for kind, one, id, more in happened]
        active = self._rules.active(shot.captured) if self._rules.all else frozenset()
        for one, track in looked:
            events += self._look(one, track, active, values)
        return tuple(events)

    def end_all(self, reason: Reason) -> tuple[Event, ...]:
        """End all tracks: the stream ends or begins anew, or its group is taken away.

        More frames may follow, if the tracker ended its tracks too: an id that came again would be a new track.
        """
        return tuple(event for id in list(self._open) for event in self._end(id, reason))

    @property
    def has_zones(self) -> bool:
        """Whether the stream has zones; without any, conditions on them are unknown."""
        return bool(self._places.zones.names)

    def zones_of(self, track: int) -> tuple[str, ...]:
        """Return the zones where a track is, by the last frame; none if it is not open."""
        one = self._open.get(track)
        return one.zones if one is not None else ()

    def is_open(self, track: int) -> bool:
        """Whether a track had its `new` and not yet its `end`."""
        return track in self._open

    @property
    def any_open(self) -> bool:
        """Whether any track is open."""
        return bool(self._open)

    def counts(self) -> PlaceCounts:
        """Return how many tracks are open, and what happened in zones and at lines since the run began."""
        zones = {name: one.zone() for name, one in self._zones.items()}
        lines = {name: LineCounts(ins=one.entries, outs=one.exits) for name, one in self._lines.items()}
        return PlaceCounts(tracks=len(self._open), zones=zones, lines=lines)

    def open_tracks(self) -> OpenTracks:
        """Return the record of the tracks that are open, by the last frame."""
        shot = self._shot
        return OpenTracks(
            **self._run,
            frame=shot.frame,
            captured=shot.captured,
            media_time_s=shot.media_time_s,
            tracks=tuple(one.record() for one in self._open.values()),
        )

    def validate(self) -> None:
        """Raise EventError unless the state is one that can be."""
        slots = [one.slot for one in self._open.values()]
        places, names = self._places, self._places.zones.names
        tracks = list(self._open.values())
        inside = [tuple(name for name, at in zip(names, places.inside[slot], strict=True) if at) for slot in slots]
        within = {name: sum(name in one.zones for one in tracks) for name in names}
        for holds, text in (
            (sorted(slots + self._free) == list(range(len(places.inside))), "a slot is lost or given twice"),
            ([one.zones for one in tracks] == inside, "a track is in other zones than its place"),
            (all({*one.zones} == {*one.since} >= {*one.due} for one in tracks), "a stay has no begin"),
            (all(one.found <= self._now for one in tracks), "a track was found in the future"),
            (
                within == {name: one.entries - one.exits for name, one in self._zones.items()},
                "those inside do not add up",
            ),
        ):
            if not holds:
                raise EventError(text)

    # ── steps of a frame ──────────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, shot: Delivered) -> None:
        """Go to the time of `shot`."""
        if shot.frame <= self._shot.frame:
            raise EventError(f"frame {shot.frame} comes after frame {self._shot.frame}")
        last, self._shot = self._shot, shot
        frame, captured, media_time_s, _, traceparent = shot
        self._of_frame = {**self._run, "frame": frame, "captured": captured, "media_time_s": media_time_s}
        self._of_frame |= {"traceparent": traceparent} if traceparent else {}
        if last.frame < 0:
            return
        media = (last.media_time_s, shot.media_time_s)
        step = shot.captured - last.captured if media[0] is None or media[1] is None else media[1] - media[0]
        self._now += max(step, 0.0)

    def _begin(self, track: Track) -> Open:
        one = Open(self._free.pop(), track, self._now, track, self._now + self._update_s, self._rules.all)
        self._places.begin(one.slot)
        self._open[track.id] = one
        return one

    def _move(self, moved: list[Open]) -> list[Happening]:
        """Go to where the tracks of `moved` are; return what happened to them in zones and at lines."""
        slots = np.array([one.slot for one in moved], np.intp)
        boxes = np.array([one.track.box for one in moved], np.float64).reshape(-1, 4)
        left, entered, crossed = self._places.move(slots, boxes, self._shot.size)
        zones, lines = self._places.zones.names, self._places.lines.names
        happened = [self._leave(moved[row], zones[zone], self._now) for row, zone in left]
        happened += [self._enter(moved[row], zones[zone]) for row, zone in entered]
        for row, _ in (*left, *entered):
            moved[row].zones = tuple(name for name in zones if name in moved[row].since)
        return happened + [self._cross(moved[row], lines[line], inward=inward) for row, line, inward in crossed]

    def _enter(self, one: Open, zone: str) -> Happening:
        self._zones[zone].entries += 1
        one.since[zone] = self._now
        if zone in self._dwell_s:
            one.due[zone] = self._now + self._dwell_s[zone]
        return "zone_entered", one, f"{zone}.{one.number(f'zone {zone}')}", {"zone": zone}

    def _leave(self, one: Open, zone: str, now: float) -> Happening:
        dwell_s = now - one.since.pop(zone)
        one.due.pop(zone, None)
        one.dwelt.discard(zone)
        count = self._zones[zone]
        count.exits += 1
        count.dwell_s += dwell_s
        count.dwell.add(dwell_s)
        return "zone_left", one, f"{zone}.{one.numbers[f'zone {zone}']}", {"zone": zone, "dwell_s": dwell_s}

    def _cross(self, one: Open, line: str, *, inward: bool) -> Happening:
        if inward:
            self._lines[line].entries += 1
        else:
            self._lines[line].exits += 1
        number = one.number(f"line {line}")
        return "line_crossed", one, f"{line}.{number}", {"line": line, "direction": "in" if inward else "out"}

    def _look(self, one: Open, track: Track, active: frozenset[Rule], values: Values) -> list[Event]:
        """Return which stays are long enough by now, which rules fire, and the update, of one track."""
        events = []
        for zone in [zone for zone, at in one.due.items() if self._now >= at] if one.due else ():
            del one.due[zone]
            one.dwelt.add(zone)
            id, stay = f"{zone}.{one.numbers[f'zone {zone}']}", self._now - one.since[zone]
            events.append(self._event("zone_dwell", track, one.zones, id, zone=zone, dwell_s=stay))
        if one.rules and (fired := self._fired(one, track, active, values)):
            one.rules = tuple(rule for rule in one.rules if rule not in fired)
            one.fired.update(rule.name for rule in fired)
            events += [self._event("rule", track, one.zones, rule.name, rule=rule.name) for rule in fired]
        if self._now >= one.update_at and one.changed(track):
            one.sent, one.update_at, one.sent_zones = track, self._now + self._update_s, one.zones
            events.append(self._event("update", track, one.zones, str(one.number("update"))))
        return events

    def _fired(self, one: Open, track: Track, active: frozenset[Rule], values: Values) -> list[Rule]:
        ready = [r for r in one.rules if r in active and r.may_fire(track, one.since, self._now)]
        if all(rule.condition is None for rule in ready):
            return ready
        read = values(track, one.zones)
        return [rule for rule in ready if rule.condition is None or rule.condition.holds(read)]

    def _end(self, id: int, reason: Reason) -> list[Event]:
        """End a track, where and when it was last found."""
        one = self._open.pop(id)
        self._free.append(one.slot)
        zones, one.zones = one.zones, ()
        left = [self._leave(one, zone, one.found) for zone in zones]
        return [
            *(self._event(kind, one.track, (), id, **more) for kind, _, id, more in left),
            self._event("end", one.track, zones, "", reason=reason),
        ]

    def _event(self, kind: EventKind, track: Track, zones: tuple[str, ...], id: str, **more: Any) -> Event:
        """Return an event of the last frame; `id` is what its id has after track and kind."""
        return Event(
            id=f"{self._begin_of_ids}{track.id}.{kind}{'.' if id else ''}{id}",
            kind=kind,
            track=track.id,
            label=track.label,
            score=track.score,
            box=track.box,
            age_s=track.age_s,
            zones=zones,
            **self._of_frame,
            **more,
        )
