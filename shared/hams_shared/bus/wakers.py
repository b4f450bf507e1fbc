"""Waits that end early when a link is lost or back, or the bus closes; used alike by the NATS and the in-memory bus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Wakers:
    """The events of those who wait now."""

    def __init__(self) -> None:
        self._events: set[asyncio.Event] = set()

    @contextmanager
    def event(self) -> Iterator[asyncio.Event]:
        """Give an event that the next `wake` sets (others that hold it may set it, too)."""
        event = asyncio.Event()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)

    def wake(self) -> None:
        """Set all events."""
        for event in self._events:
            event.set()
