"""What two series of turns say about each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """This tree ÷ base, over the rounds; the two turns of a round follow one another, on a machine at one speed."""

    name: str
    this: float
    """Median of this tree."""
    base: float
    rounds: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.rounds)


def ratio(name: str, this: Sequence[float], base: Sequence[float]) -> Ratio:
    """Compare, round by round. Raises ValueError when the series differ in length or are empty."""
    if not this:
        raise ValueError("no rounds")
    return Ratio(name, median(this), median(base), tuple(a / b for a, b in zip(this, base, strict=True)))


def slower(fps: Ratio, cpu: Ratio, tolerance: float) -> list[str]:
    """Why this tree counts as slower: beyond the tolerance in the median, and worse in every single round."""
    found = []
    if fps.middle < 1 - tolerance and max(fps.rounds) < 1:
        found.append(f"{fps.middle:.2f} × the frames/s")
    if cpu.middle > 1 + tolerance and min(cpu.rounds) > 1:
        found.append(f"{cpu.middle:.2f} × the CPU time per frame")
    return found
