"""How long to wait before a lost source is tried again. Pure.

Exponential and bounded, as long as attempts fail; jittered, so that all streams of a camera recorder that restarts do
not come back in the same instant.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.5
MOST_S = 30.0
STEADY_S = 10.0
"""A connection that held for so long was sound: the next attempt comes soon."""


@dataclass
class Backoff:
    """The attempts at one source."""

    attempt: int = 0
    """Attempts since the source was sound."""

    def lost(self, held_s: float, luck: float) -> float:
        """The source was lost after `held_s` seconds (0: it was never there): how long to wait, s.

        `luck` is a random number, 0 to 1; the pause is between half and all of the exponential one.
        """
        if held_s >= STEADY_S:
            self.attempt = 0
        pause = min(MOST_S, FIRST_S * 2.0 ** min(self.attempt, 16))
        self.attempt += 1
        return pause * (0.5 + 0.5 * luck)
