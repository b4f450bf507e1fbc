"""How many of the worst layers stay in higher precision: as few as reach the floor, found in few tries. Pure.

Layers are ranked by the error they add (see `layer_ranking`); keeping the first k of them is
tried for k = 0, 1, 2, 4, … until the agreement reaches the floor, then halfway back while that is worth a try.
Agreement need not grow with k, so what is returned is always something that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class KeepSearch:
    """Says what to try next."""

    layers: int
    """How many there are."""
    floor: float
    deadline: float
    """Nothing new is tried from this time on; any clock, s."""
    tried: dict[int, float] = field(default_factory=dict)
    """Kept layers → agreement."""

    def add(self, count: int, agreement: float) -> None:
        """Take what was measured."""
        self.tried[count] = agreement

    def next(self, now: float) -> int | None:
        """Return how many layers to keep in the next try, None at the end."""
        if not self.tried:
            return 0
        if now >= self.deadline:
            return None
        good = min((count for count, agreement in self.tried.items() if agreement >= self.floor), default=None)
        if good is None:
            most = max(self.tried)
            return None if most >= self.layers else min(max(1, 2 * most), self.layers)
        bad = max((count for count in self.tried if count < good), default=None)
        if bad is None or good - bad <= max(1, good // 8):
            return None
        return (good + bad) // 2

    @property
    def best(self) -> int:
        """The fewest kept layers that reach the floor; where none do, those that agree best."""
        good = [count for count, agreement in self.tried.items() if agreement >= self.floor]
        return min(good) if good else max(self.tried, key=lambda count: (self.tried[count], -count))
