"""Questions to the broker that wait for an answer: when the connection is lost, none will come.

nats-py waits its whole deadline, 2 to 5 s, though the broker that was asked is gone and another process is back after
0.3 s. Here the wait ends at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Unanswered:
    """The questions of one connection that wait."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()

    def __len__(self) -> int:
        return len(self._limits)

    async def ask(self, question: Callable[[], Awaitable[T]], *, again: bool) -> T:
        """Return what `question` returns; after a loss of the connection it is asked anew if `again`.

        Raises TimeoutError after a loss: what was asked may have been done or not; and all that `question` raises.
        """
        while True:
            try:
                async with asyncio.timeout(None) as limit:
                    self._limits.add(limit)
                    try:
                        return await question()
                    finally:
                        self._limits.discard(limit)
            except TimeoutError:
                if not (again and limit.expired()):
                    raise

    def lost(self) -> None:
        """The connection is lost. Called on the event loop."""
        limits, self._limits = self._limits, set()
        for limit in limits:
            limit.reschedule(0.0)
