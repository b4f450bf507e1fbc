"""What a group file says of its events: the rules that fire once per track, and how long events are kept.

Hours are those of the clock on the wall in the events' time zone, so that daylight saving needs no care: in the hour
that a clock leaves out in spring nothing holds, and in the hour that it repeats in autumn all holds twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field

from hams_shared.group.findings import Strict
from hams_shared.group.node_spec import Name

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = 24 * 60
_TIMES = re.compile(r"(\d{1,2}):(\d{2}) ?- ?(\d{1,2}):(\d{2})")
_FORM = "write days, times or both, as in `mon-fri 08:00-18:00`, `sat,sun` or `22:00-05:00`"


@dataclass(frozen=True)
class Hours:
    """On `days` (0 is Monday) from minute `start` of the day to minute `end`, which is not of it.

    With `start` after `end` they go on over midnight: they belong to the day on which they start.
    """

    days: frozenset[int]
    start: int
    end: int

    def hold(self, weekday: int, minute: int) -> bool:
        """Return whether `minute` of `weekday` is of these hours."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        before, after = minute >= self.start, minute < self.end
        return (before and weekday in self.days) or (after and (weekday - 1) % 7 in self.days)


def parse_hours(text: str) -> Hours:
    """Return the hours that `text` of a group file means: days, times, or both; days left out are all days.

    Raises:
        ValueError: it means none; the error says what to write.
    """
    plain = " ".join(text.lower().split())
    split = re.search(r"\d", plain)
    at = split.start() if split is not None else len(plain)
    days, times = plain[:at].strip(), plain[at:]
    if not plain:
        raise ValueError(f"must not be empty: {_FORM}")
    start, end = _times(times) if times else (0, MIDNIGHT)
    return Hours(frozenset(_days(days)) if days else frozenset(range(7)), start, end)


def _days(text: str) -> Iterable[int]:
    for item in text.split(","):
        first, dash, last = (part.strip() for part in item.partition("-"))
        a, b = _day(first), _day(last) if dash else None
        yield from [a] if b is None else [(a + more) % 7 for more in range((b - a) % 7 + 1)]


def _day(name: str) -> int:
    if name in DAYS:
        return DAYS.index(name)
    close = difflib.get_close_matches(name[:3], DAYS, n=1)
    hint = f"did you mean {close[0]}?" if close else _FORM
    raise ValueError(f"{name!r} is no day of the week, which are {', '.join(DAYS)} ({hint})")


def _times(text: str) -> tuple[int, int]:
    found = _TIMES.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no span of time: {_FORM}")
    hours = [int(part) for part in found.groups()]
    start, end = 60 * hours[0] + hours[1], 60 * hours[2] + hours[3]
    if max(hours[1], hours[3]) > 59 or start >= MIDNIGHT or end > MIDNIGHT:
        raise ValueError(f"{text!r} has a time that no clock shows: from 00:00 to 23:59, and 24:00 as an end")
    if start == end:
        raise ValueError(f"{text!r} is no time at all: its start is its end; 00:00-24:00 is the whole day")
    return start, end


def parse_time_zone(name: str) -> ZoneInfo | None:
    """Return the time zone called `name`; None, which is the host's own, for an empty one.

    Raises:
        ValueError: there is none of this name; the error says which is meant, where one is near.
    """
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a path, the name of a folder, unknown
        known = sorted(available_timezones())
    if not known:
        raise ValueError(f"{name!r} cannot be looked up: this host has no time zones (install the package tzdata)")
    close = difflib.get_close_matches(name, known, n=1) or [z for z in known if z.lower().endswith(f"/{name.lower()}")]
    hint = f"did you mean {close[0]}?" if close else "they are named as in Europe/Berlin or America/New_York"
    raise ValueError(f"{name!r} is no time zone ({hint})")


def wall_clock(now: float, zone: ZoneInfo | None) -> tuple[int, int]:
    """Return the day of the week (0 is Monday) and the minute of the day at Unix time `now` in `zone`."""
    local = datetime.fromtimestamp(now, zone)
    return local.weekday(), 60 * local.hour + local.minute


def _hours_text(text: str) -> str:
    parse_hours(text)
    return text


def _time_zone_name(name: str) -> str:
    parse_time_zone(name)
    return name


class EventRule(Strict):
    """An event of its own, once per track, as soon as all that the rule asks for holds."""

    min_age_s: float = Field(0.0, ge=0, le=86_400, description="the track is so old; with zones: so long in one")
    zones: tuple[Name, ...] = Field((), description="in one of these zones; empty: anywhere")
    labels: tuple[str, ...] = Field((), description="of one of these labels; empty: any")
    when: str | None = Field(None, description="a condition on the object (docs/conditions.md)")
    hours: tuple[Annotated[str, AfterValidator(_hours_text)], ...] = Field(
        (), description="only then: `mon-fri 08:00-18:00`, `sat,sun`, `22:00-05:00`; empty: always"
    )
    crop: bool = Field(False, description="its event has a small JPEG of the track at its best so far")


class EventsSpec(Strict):
    """The events of a group: tracks, zones and lines give theirs anyway."""

    rules: dict[Name, EventRule] = Field({})
    dwell_s: dict[Name, Annotated[float, Field(gt=0, le=86_400)]] = Field(
        {}, description="by zone: an event once a track has been there so long, s"
    )
    time_zone: Annotated[str, AfterValidator(_time_zone_name)] = Field(
        "", description="of hours, as in Europe/Berlin; empty: that of the pipeline's host"
    )
    update_s: float = Field(1.0, gt=0, le=3600, description="least time between two `update` events of a track, s")
    crop: bool = Field(False, description="all events but `update` have a small JPEG of the track at its best so far")

    @property
    def crops(self) -> bool:
        """Whether any event has a crop."""
        return self.crop or any(rule.crop for rule in self.rules.values())

    def has_crop(self, kind: str, rule: str) -> bool:
        """Whether an event of `kind`, and of `rule` if it is one of a rule, has a crop."""
        return kind != "update" and (self.crop or (kind == "rule" and self.rules[rule].crop))

    @property
    def crop_labels(self) -> frozenset[str]:
        """The labels of the tracks whose events may have a crop; empty: all."""
        asking = [rule.labels for rule in self.rules.values() if rule.crop]
        return frozenset() if self.crop or not all(asking) else frozenset(label for of in asking for label in of)
