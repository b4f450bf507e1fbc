"""Events: changes worth acting on. What the pipeline publishes on ``hams.v1.event.<group>.<stream>``, and keeps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire, WireError

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
    zones: tuple[str, ...] = Field((), description="in which it is now")
    zone: str = Field("", description="of zone_entered, zone_left, zone_dwell")
    line: str = Field("", description="of line_crossed")
    direction: Literal["", "in", "out"] = Field("", description="of line_crossed")
    dwell_s: float = Field(0.0, description="of zone_left and zone_dwell: how long it has been there")
    rule: str = Field("", description="of rule: its name")
    reason: str = Field("", description="of end: lost, stream-ended, undeployed, restart")
    crop: bytes | None = Field(None, description="JPEG of the object at its best, where the consumer asked for it")


class EventsRequest(Wire):
    """Request on ``hams.v1.events-after.<group>``: some of its stored events, oldest first."""

    stream: str = Field("*", pattern=r"^(\*|[a-zA-Z0-9_-]{1,64})$", description="name of a stream, or * for all")
    after: int = Field(0, ge=0, description="those behind this sequence; 0: from the oldest")
    journal: str = Field("", description="what `after` belongs to, as an answer names it; empty: the present one")
    since_s: float | None = Field(
        None, ge=0, description="instead of `after`: those stored in the last since_s seconds; 0: only newer ones"
    )


class StoredEvent(Wire):
    """An event as it is stored."""

    sequence: int = Field(description="grows from event to event of a site; `after` takes it")
    event: bytes = Field(description="an event, msgpack")


class EventsAnswer(Wire):
    """Stored events, and where to read on; or why there are none."""

    events: tuple[StoredEvent, ...] = ()
    after: int = Field(0, description="for the next request")
    journal: str = Field("", description="for the next request: a broker that lost its store has another one")
    more: bool = Field(False, description="whether there may be more now")
    error: WireError | None = None


class TracksRecord(Wire):
    """Of a stream's open tracks, in the KV bucket ``hams-tracks``: what a restarted pipeline needs to end them."""

    tracks: bytes = Field(description="as the pipeline's own code reads it")
    after: int = Field(0, description="sequence of the last event before it was made: those behind it count, too")
    journal: str = ""
