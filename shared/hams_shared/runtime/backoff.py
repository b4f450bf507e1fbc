"""How long to wait before something that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MOST_DOUBLINGS = 64
"""A float overflows at 2**1024."""


@dataclass(frozen=True)
class Backoff:
    """Pauses that double with every failure in a row, up to a bound."""

    first: float
    """Pause after the first failure, s."""
    longest: float
    """Longest pause, s."""
    jitter: float = 0.0
    """Each pause is shortened by up to this share, so that many clients do not come back at once."""

    def pause(self, failures: int, chance: float = 0.0) -> float:
        """Return the pause after `failures` failures in a row (at least 1), s; `chance` is a random number, 0–1."""
        doublings = min(max(failures - 1, 0), MOST_DOUBLINGS)
        return min(self.longest, self.first * 2.0**doublings) * (1.0 - self.jitter * chance)
