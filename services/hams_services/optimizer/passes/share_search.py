"""The least share of a network, or of its image, that reaches the floor, found in few tries. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

SMALLEST = 0.1
"""Less is not tried."""
LARGEST = 0.95
"""More is not worth a variant of its own."""
DOWN = 0.8
"""Where all was good so far, so much of the smallest is tried next."""


@dataclass
class ShareSearch:
    """Says what to try next. Agreement need not fall with the share, so what is returned was measured."""

    floor: float
    deadline: float
    """Nothing new is tried from this time on; any clock, s."""
    first: float = 0.65
    near: float = 0.02
    """Good and bad shares as near as this are near enough."""
    tried: dict[float, float] = field(default_factory=dict)
    """Share asked for → agreement."""

    def add(self, share: float, agreement: float) -> None:
        """Take what was measured."""
        self.tried[share] = agreement

    def next(self, now: float) -> float | None:
        """Return the share to try next, None at the end."""
        if not self.tried:
            return self.first
        if now >= self.deadline:
            return None
        good = self.best
        if good is None:
            most = max(self.tried)
            return None if most >= LARGEST else min(round((most + 1) / 2, 3), LARGEST)
        bad = max((share for share in self.tried if share < good), default=None)
        if bad is None:
            return None if good <= SMALLEST else max(round(DOWN * good, 3), SMALLEST)
        return None if good - bad <= self.near else round((good + bad) / 2, 3)

    @property
    def best(self) -> float | None:
        """The smallest share that reaches the floor; None where none does."""
        return min((share for share, agreement in self.tried.items() if agreement >= self.floor), default=None)
