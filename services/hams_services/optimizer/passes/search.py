"""The search for the least setting of a pass that reaches the accuracy floor, in few trials. Pure.

Agreement need not grow with the setting, so what is returned was always measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SMALLEST = 0.1
"""Smaller shares are not tried."""
LARGEST = 0.95
"""Larger ones are not worth a variant of their own."""
DOWN = 0.8
"""Where all shares reached the floor so far, so much of the smallest is tried next."""

S = TypeVar("S", int, float)


@dataclass(frozen=True)
class Scale(Generic[S]):
    """The settings of a pass in the order of trials; the smaller a setting, the faster the variant."""

    first: S
    larger: Callable[[S], S | None]
    """What to try when the largest setting so far misses the floor; None: nothing more."""
    smaller: Callable[[S], S | None] = lambda least: None
    """What to try when the smallest setting so far reaches the floor; None: nothing more."""
    between: Callable[[S, S], S | None] = lambda bad, good: None
    """What to try between a setting that misses and one that reaches the floor; None: they are tolerance enough."""


def shares(first: float = 0.65, tolerance: float = 0.02) -> Scale[float]:
    """Shares of a network or of its image, 0…1: halfway up, a part down, then bisection to `tolerance`."""
    return Scale(
        first,
        lambda most: None if most >= LARGEST else min(round((most + 1) / 2, 3), LARGEST),
        lambda least: None if least <= SMALLEST else max(round(DOWN * least, 3), SMALLEST),
        lambda bad, good: None if good - bad <= tolerance else round((good + bad) / 2, 3),
    )


def kept_layers(layers: int) -> Scale[int]:
    """Numbers of layers that stay in higher precision: 0, 1, 2, 4, … `layers`, then bisection to an eighth."""
    return Scale(
        0,
        lambda most: None if most >= layers else min(max(1, 2 * most), layers),
        between=lambda bad, good: None if good - bad <= max(1, good // 8) else (good + bad) // 2,
    )


def steps(count: int) -> Scale[int]:
    """The numbers 0, 1, … `count` - 1; the first that reaches the floor is the best."""
    return Scale(0, lambda most: most + 1 if most + 1 < count else None)


@dataclass
class Search(Generic[S]):
    """Decides which setting to try next."""

    scale: Scale[S]
    floor: float
    tried: dict[S, float] = field(default_factory=dict)
    """Setting → agreement."""

    def next(self) -> S | None:
        """Return the setting to try next, None at the end."""
        if not self.tried:
            return self.scale.first
        good = self._good()
        if not good:
            return self.scale.larger(max(self.tried))
        bad = [one for one in self.tried if one < min(good)]
        return self.scale.between(max(bad), min(good)) if bad else self.scale.smaller(min(good))

    @property
    def best(self) -> S:
        """The smallest setting that reaches the floor; where none does, the one that agrees best."""
        good = self._good()
        return min(good) if good else min(self.tried, key=lambda one: (-self.tried[one], one))

    def _good(self) -> list[S]:
        return [one for one, agreement in self.tried.items() if agreement >= self.floor]
