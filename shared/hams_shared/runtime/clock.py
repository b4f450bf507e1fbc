"""The clock that every part's shell takes its time from.

Tasks wait by asyncio, whose loop has the same clock; threads wait by :meth:`Clock.wait`. A test hands in another clock,
together with a loop that follows it, and hours pass in a second.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time that never goes back."""

    def now(self) -> float:
        """Return the time, s; only differences mean something."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait in a thread until `condition`, whose lock is held, is notified or `timeout` s have passed."""
        ...


class SystemClock:
    """The monotonic clock of this host."""

    def now(self) -> float:
        """Return the time, s."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait in a thread; see :class:`Clock`."""
        condition.wait(timeout)


SYSTEM_CLOCK = SystemClock()
