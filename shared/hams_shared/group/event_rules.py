"""What a group file says of its events: the rules that fire once per track, and how long events are kept."""

from __future__ import annotations

from pydantic import Field

from hams_shared.group.findings import Strict
from hams_shared.group.node_spec import Name


class EventRule(Strict):
    """An event of its own, once per track, as soon as all that the rule asks for holds."""

    min_age_s: float = Field(0.0, ge=0, le=86_400, description="the track is so old; with zones: so long in one")
    zones: tuple[Name, ...] = Field((), description="in one of these zones; empty: anywhere")
    labels: tuple[str, ...] = Field((), description="of one of these labels; empty: any")
    when: str | None = Field(None, description="a condition on the object (docs/conditions.md)")
    hours: tuple[str, ...] = Field(
        (), description="only then: `mon-fri 08:00-18:00`, `sat,sun`, `22:00-05:00`; empty: always"
    )


class EventsSpec(Strict):
    """The events of a group: tracks, zones and lines give theirs anyway."""

    rules: dict[Name, EventRule] = Field({})
    dwell_s: dict[Name, float] = Field({}, description="by zone: an event once a track has been there so long, s")
    time_zone: str = Field("", description="of hours, as in Europe/Berlin; empty: that of the pipeline's host")
    update_s: float = Field(1.0, gt=0, le=3600, description="least time between two `update` events of a track, s")
