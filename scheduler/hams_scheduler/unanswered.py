"""Benchmarks that end without a number: how often they are attempted, and when again. Pure.

The broker lost the answer, the device has no memory left, or its agent ended. Each of these may pass, so no such pair
is given up for good: three attempts in a row, then pauses that double, up to an hour.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from hams_scheduler.network import Cell
from hams_shared.runtime.backoff import Backoff

PROFILE_ATTEMPTS = 3
"""Attempts at one benchmark in a row, before the pair counts as unsupported for a while."""
PROFILE_AGAIN = Backoff(first=60.0, longest=3600.0)
"""Pauses between further attempts, s; a restart of the agent ends them."""


@dataclass(frozen=True)
class NoNumber:
    """A benchmark that ended without a number."""

    why: str
    attempts: int
    again_at: float
    """When it is attempted again, s."""
    rests: bool
    """Whether it waits for that time."""


@dataclass
class Unanswered:
    """These benchmarks, by incarnation of the agent and cell. `now` is a monotonic time, s."""

    known: dict[tuple[str, Cell], NoNumber] = field(default_factory=dict)

    def failed(self, incarnation: str, cell: Cell, why: str, now: float) -> int:
        """Note one; return how often it was attempted by now."""
        known = self.known.get((incarnation, cell))
        attempts = known.attempts + 1 if known is not None else 1
        beyond = attempts - PROFILE_ATTEMPTS + 1
        again_at = now + PROFILE_AGAIN.pause(beyond) if beyond > 0 else now
        self.known[incarnation, cell] = NoNumber(why, attempts, again_at, rests=beyond > 0)
        return attempts

    def given_up(self, incarnation: str, cell: Cell) -> str | None:
        """Why `cell` has no number although it was attempted often enough for now, or None."""
        known = self.known.get((incarnation, cell))
        return known.why if known is not None and known.rests else None

    def attempt_again(self, now: float) -> bool:
        """Have those attempted again whose pause is over; return whether there were any."""
        due = [key for key, one in self.known.items() if one.rests and now >= one.again_at]
        for key in due:
            self.known[key] = replace(self.known[key], rests=False)
        return bool(due)

    def keep(self, incarnations: Collection[str]) -> None:
        """Drop those of other agents than these."""
        self.known = {key: one for key, one in self.known.items() if key[0] in incarnations}

    def forget(self, incarnation: str, digest: str) -> bool:
        """Drop those of a network on one agent; return whether there were any."""
        left = {key: one for key, one in self.known.items() if key[0] != incarnation or key[1].digest != digest}
        found = len(left) < len(self.known)
        self.known = left
        return found
