"""Events: changes worth acting on. What the pipeline publishes on ``hams.v1.event.<group>.<stream>``, and keeps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import StoredAnswer, StoredRequest, Wire
from hams_shared.wire.messages.histogram import Histogram

EventKind = Literal["new", "update", "end", "zone_entered", "zone_left", "zone_dwell", "line_crossed", "rule"]


class Event(Wire):
    """One event of one track. Each is published at least once, with the same `id` when it is published again."""

    version: Literal[1] = 1
    id: str = Field(description="unique; a consumer that has seen it has seen the event")
    group: str
    stream: str
    run: str = Field(description="of the stream in the pipeline: track ids are unique within it, and begin at 1 again")
    kind: EventKind
    captured: float = Field(description="when the camera took the frame, Unix time, s")
    media_time_s: float | None = None
    frame: int
    track: int
    label: str
    score: float
    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in pixels of the frame")
    age_s: float = Field(description="since the track's first detection")
    zones: tuple[str, ...] = Field((), description="in which it is now; of end: where it was last found")
    zone: str = Field("", description="of zone_entered, zone_left, zone_dwell")
    line: str = Field("", description="of line_crossed")
    direction: Literal["", "in", "out"] = Field("", description="of line_crossed")
    dwell_s: float = Field(
        0.0, description="of zone_left and zone_dwell: how long it has been there; after a restart: at least"
    )
    rule: str = Field("", description="of rule: its name")
    reason: str = Field("", description="of end: lost, no-frames, stream-ended, undeployed, restart")
    crop: bytes | None = Field(None, description="JPEG of the track at its best so far, where the group asks for it")
    traceparent: str = Field("", description="W3C, of an event of a traced frame; others come without")


class OpenZone(Wire):
    """A zone that an open track is in."""

    zone: str
    visit: int = Field(description="of this track to this zone, from 1")
    dwell_s: float = Field(description="how long it had been there")


class OpenTrack(Wire):
    """A track that had its `new` and not yet its `end`, as it was last found."""

    track: int
    label: str
    score: float
    box: tuple[float, float, float, float]
    age_s: float
    zones: tuple[OpenZone, ...] = ()


class OpenTracks(Wire):
    """The open tracks of one stream, kept by the pipeline so that they end even if it does not live to end them."""

    version: Literal[1] = 1
    group: str
    stream: str
    run: str
    frame: int
    captured: float
    media_time_s: float | None = None
    tracks: tuple[OpenTrack, ...] = ()


class ZoneCounts(Wire):
    """What happened in one zone of one stream since its run began."""

    inside: int = Field(description="tracks in it now")
    entries: int
    exits: int
    dwell_s: float = Field(description="sum of the stays that ended")
    dwell: Histogram | None = Field(None, description="the lengths of these stays, s")


class LineCounts(Wire):
    """Tracks that crossed one line of one stream since its run began, by direction."""

    ins: int = Field(description="direction `in`")
    outs: int = Field(description="direction `out`")


class PlaceCounts(Wire):
    """The counts of one stream, by name."""

    tracks: int | None = Field(None, description="tracks open now: with `new`, without `end`; null: an earlier version")
    zones: dict[str, ZoneCounts] = Field({})
    lines: dict[str, LineCounts] = Field({})


class EventsRequest(StoredRequest):
    """Request on ``hams.v1.events-after.<group>``: some of its stored events, oldest first."""

    stream: str = Field("*", pattern=r"^(\*|[a-zA-Z0-9_-]{1,64})$", description="name of a stream, or * for all")


class StoredEvent(Wire):
    """An event as it is stored."""

    sequence: int = Field(description="grows from event to event of a site; `after` takes it")
    event: bytes = Field(description="an event, msgpack")


class EventsAnswer(StoredAnswer):
    """Stored events, and where to read on; or why there are none."""

    events: tuple[StoredEvent, ...] = ()


class TracksRecord(Wire):
    """Of a stream's open tracks, in the KV bucket ``hams-tracks``: what a restarted pipeline needs to end them."""

    tracks: bytes = Field(description="as the pipeline's own code reads it")
    after: int = Field(0, description="sequence of the last event before it was made: those behind it count, too")
    journal: str = ""
