"""Items that have come and wait for their reader, who notices, too, that the connection has ended for good."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from hams_shared.bus.protocol import Bus

T = TypeVar("T")


class Arrived(Generic[T]):
    """At most `limit` items in order of arrival; the oldest gives way. 0: no limit."""

    def __init__(self, bus: Bus, limit: int) -> None:
        self.lost = 0
        """Items that gave way to newer ones."""
        self._bus, self._limit = bus, limit
        self._items: deque[T] = deque()
        self._waiting: set[asyncio.Event] = set()

    def put(self, item: T) -> None:
        """Add an item, and wake the readers."""
        if 0 < self._limit <= len(self._items):
            self._items.popleft()
            self.lost += 1
        self._items.append(item)
        for event in self._waiting:
            event.set()

    async def next(self) -> T:
        """Take the oldest item, or wait for one. Raises BrokerError when the connection has ended for good."""
        if not self._items:
            await self._some()
        return self._items.popleft()

    async def _some(self) -> None:
        with self._bus.wakers.event() as event:
            self._waiting.add(event)
            try:
                while not self._items:
                    self._bus.check_open()
                    event.clear()
                    await event.wait()
            finally:
                self._waiting.discard(event)
