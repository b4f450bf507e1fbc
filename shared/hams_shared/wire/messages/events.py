"""Events: changes worth acting on. What the pipeline publishes on ``hams.v1.event.<group>.<stream>``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire

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
