"""The tracks of a stream that are open, and how they end when the pipeline that followed them is no more. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hams_services.pipeline.rules import Rule
from hams_services.pipeline.tracking.tracks import Track
from hams_shared.wire.messages.events import Event, OpenTrack, OpenTracks, OpenZone

CHANGED = 0.25
"""A box has changed much once one of its sides moved by this part of the box's width or height."""


@dataclass(slots=True)
class Open:
    """A track between its `new` and its `end`."""

    slot: int
    """Of its places."""
    track: Track
    """As it was last found."""
    found: float
    """When that was, s of the core's time."""
    sent: Track
    """As it was in its last `new` or `update`."""
    update_at: float
    """When the next `update` may be sent."""
    rules: tuple[Rule, ...]
    """Those that did not fire yet."""
    sent_zones: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    """Where it is, in the order of the group file."""
    since: dict[str, float] = field(default_factory=dict)
    """Of each of these, since when."""
    due: dict[str, float] = field(default_factory=dict)
    """Of each of these whose dwell time is not over, when it will be."""
    dwelt: set[str] = field(default_factory=set)
    """Of the zones where it is: those whose dwell time was over."""
    fired: set[str] = field(default_factory=set)
    """Names of the rules that fired."""
    numbers: dict[str, int] = field(default_factory=dict)
    """How many events there were of what comes again: visits by zone, crossings by line, and updates."""

    def number(self, of: str) -> int:
        """Return the next number of the events `of`."""
        self.numbers[of] = number = self.numbers.get(of, 0) + 1
        return number

    def changed(self, track: Track) -> bool:
        """Return whether `track`, as it is now, differs much from what was last sent."""
        sent = self.sent
        if self.zones != self.sent_zones or track.label != sent.label:
            return True
        (a, b, c, d), (x0, y0, x1, y1) = sent.box, track.box
        wide, high = CHANGED * (c - a), CHANGED * (d - b)
        return abs(x0 - a) > wide or abs(x1 - c) > wide or abs(y0 - b) > high or abs(y1 - d) > high

    def record(self) -> OpenTrack:
        """Return the track as it is stored."""
        track = self.track
        return OpenTrack(
            track=track.id,
            label=track.label,
            score=track.score,
            box=track.box,
            age_s=track.age_s,
            zones=tuple(
                OpenZone(zone=zone, visit=self.numbers[f"zone {zone}"], dwell_s=self.found - self.since[zone])
                for zone in self.zones
            ),
        )


def resumed(record: OpenTracks, later: Sequence[Event] = ()) -> tuple[Event, ...]:
    """Return the events with which the tracks of a run that broke off end, by a record and what was published `later`.

    They have the ids that the run itself would have given: where it did end a track, it ends once for consumers.
    """
    tracks = {one.track: one for one in record.tracks}
    last = record
    for event in later:
        if event.run == record.run:
            last = record.model_copy(update=event.model_dump(include={"frame", "captured", "media_time_s"}))
            _take(tracks, event)
    run = last.model_dump(include={"group", "stream", "run", "frame", "captured", "media_time_s"})
    return tuple(event for one in tracks.values() for event in _ends(run, one))


def _take(tracks: dict[int, OpenTrack], event: Event) -> None:
    """Let an event of its run count for the open `tracks`."""
    if event.kind == "end":
        tracks.pop(event.track, None)
        return
    known = tracks.get(event.track)
    zones = {at.zone: at for at in known.zones} if known is not None else {}
    if event.kind == "zone_entered":
        zones[event.zone] = OpenZone(zone=event.zone, visit=int(event.id.rpartition(".")[2]), dwell_s=0.0)
    elif event.kind == "zone_left":
        zones.pop(event.zone, None)
    seen = event.model_dump(include={"track", "label", "score", "box", "age_s"})
    tracks[event.track] = OpenTrack(**seen, zones=tuple(zones.values()))


def _ends(run: dict[str, Any], one: OpenTrack) -> Iterator[Event]:
    """Yield how an open track leaves its zones, and ends."""
    begin = f"{run['group']}.{run['stream']}.{run['run']}.{one.track}"
    of = run | one.model_dump(exclude={"zones"})
    for at in one.zones:
        id = f"{begin}.zone_left.{at.zone}.{at.visit}"
        yield Event(id=id, kind="zone_left", zone=at.zone, dwell_s=at.dwell_s, **of)
    zones = tuple(at.zone for at in one.zones)
    yield Event(id=f"{begin}.end", kind="end", zones=zones, reason="restart", **of)
