"""A mean with exponential forgetting. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ratio:
    """A smoothed quotient of two sums: sum(above) / sum(below), the old fading as the new comes."""

    memory: float
    above: float = 0.0
    below: float = 0.0

    def add(self, above: float, below: float) -> None:
        """Observe `above` over `below` (> 0, in the unit of `memory`)."""
        keep = max(0.0, 1.0 - below / self.memory)
        self.above = self.above * keep + above
        self.below = self.below * keep + below

    def value(self, prior: float, strength: float) -> float:
        """The quotient, shrunk towards `prior`, which counts as much as `strength` of `below`."""
        return (self.above + prior * strength) / (self.below + strength)

    def confidence(self, strength: float) -> float:
        """How much of :meth:`value` was observed, 0–1."""
        return self.below / (self.below + strength)
