"""The rules of a group's events, ready to be asked of tracks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hams_services.pipeline.tracking.tracks import Track
from hams_shared.group.event_rules import EventsSpec, Hours, parse_hours, parse_time_zone, wall_clock

SLACK_S = 1e-6
"""So little is never missing of a time that must have passed: sums of steps round."""


class Condition(Protocol):
    """The `when` of a rule."""

    def holds(self, values: Mapping[str, Any], /) -> bool:
        """Return whether it holds for an object with these `values`."""


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule. It has no memory: who asks it asks no more once it fired."""

    name: str
    min_age_s: float
    zones: tuple[str, ...]
    labels: frozenset[str]
    hours: tuple[Hours, ...]
    condition: Condition | None

    def may_fire(self, track: Track, since: Mapping[str, float], now: float) -> bool:
        """Return whether all but hours and condition holds for `track`, which is in zones `since` such times."""
        if self.labels and track.label not in self.labels:
            return False
        if not self.zones:
            return track.age_s >= self.min_age_s - SLACK_S
        if not since:
            return False
        return any(zone in since and now - since[zone] >= self.min_age_s - SLACK_S for zone in self.zones)


class Rules:
    """The rules of a group, in the order of its file."""

    def __init__(self, spec: EventsSpec, conditions: Mapping[str, Condition]) -> None:
        """Take the `conditions` of the rules that have a `when`, by the rules' names.

        Raises:
            ValueError: a rule with a `when` has no condition, or the other way round; the time zone is unknown.
        """
        if set(conditions) != {name for name, rule in spec.rules.items() if rule.when is not None}:
            raise ValueError("conditions are those of the rules with `when`, all and no others")
        self.all = tuple(
            Rule(
                name,
                rule.min_age_s,
                rule.zones,
                frozenset(rule.labels),
                tuple(map(parse_hours, rule.hours)),
                conditions.get(name),
            )
            for name, rule in spec.rules.items()
        )
        self._zone = parse_time_zone(spec.time_zone)
        self._active: tuple[float, frozenset[Rule]] = (float("nan"), frozenset())
        """The minute that was asked for last, and its rules."""

    def active(self, captured: float) -> frozenset[Rule]:
        """Return the rules whose hours hold at Unix time `captured`."""
        minute = captured // 60
        if minute != self._active[0]:
            day, at = wall_clock(captured, self._zone)
            now = (rule for rule in self.all if not rule.hours or any(one.hold(day, at) for one in rule.hours))
            self._active = minute, frozenset(now)
        return self._active[1]
