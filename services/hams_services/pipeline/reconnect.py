"""How long to wait before a lost source is opened again. Pure but for the dice."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_S = 0.5
LONGEST_S = 15.0
JITTER = 0.25
"""Up to this part is added, so that the cameras of a site do not all come back at once."""


@dataclass
class Backoff:
    """Twice as long after every failure, up to a bound; from the beginning after a success."""

    _pause: float = FIRST_S

    def next(self) -> float:
        """Seconds to wait now."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_S)
        return pause * (1 + JITTER * random.random())

    def reset(self) -> None:
        """It works again."""
        self._pause = FIRST_S
