"""The budget of an anytime search: the one module of the solver that reads real time.

Everything else receives a `Budget` (or a `Clock`), so tests can pass a clock of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

Clock = Callable[[], float]
"""Returns seconds from a clock that never goes back."""

default_clock: Clock = perf_counter


@dataclass(frozen=True)
class Budget:
    """A deadline on a clock; `seconds` may be infinite.

    A part of a search gets a part of the budget with `part`, never a clock and a limit of its own.
    """

    clock: Clock
    started: float
    seconds: float

    @staticmethod
    def start(seconds: float, clock: Clock = default_clock) -> Budget:
        """Return a budget of `seconds` that begins now on `clock`."""
        return Budget(clock, clock(), seconds)

    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def left(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.seconds - self.spent())

    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.spent() >= self.seconds

    def part(self, seconds: float) -> Budget:
        """Return a budget of at most `seconds` from now, ending no later than this one."""
        return Budget.start(min(seconds, self.left()), self.clock)
