"""Results for many clients: one subscription for each stream that is followed, whose results are encoded once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from hams_client import Feed, Hams, Result
from hams_shared.errors import BrokerError
from hams_shared.runtime.lifecycle import ended

log = logging.getLogger("hams.gateway")

LIMIT = 64
"""Results that wait for one client; beyond, it loses the oldest."""


@dataclass(frozen=True)
class Item:
    """A result: its name among those of its group, and its JSON."""

    id: str
    json: bytes


class Listener:
    """The queue of one client."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._lost = 0
        self._closed = False
        self._some = asyncio.Event()

    def put(self, item: Item) -> None:
        """Add the newest result; where the queue is full, the oldest one is lost."""
        if len(self._items) == self._limit:
            self._items.popleft()
            self._lost += 1
        self._items.append(item)
        self._some.set()

    def lose(self, count: int) -> None:
        """Count results that were lost before they came here."""
        self._lost += count

    def close(self) -> None:
        """Give what waits, and then no more."""
        self._closed = True
        self._some.set()

    async def next(self) -> tuple[int, list[Item]] | None:
        """Wait for results; return how many were lost before them, and all that wait. None: there are no more."""
        await self._some.wait()
        lost, items = self._lost, list(self._items)
        if not items and self._closed:
            return None
        self._lost = 0
        self._items.clear()
        if not self._closed:
            self._some.clear()
        return lost, items


@dataclass
class _Channel:
    feed: Feed[Result]
    pump: asyncio.Task[None]
    listeners: set[Listener] = field(default_factory=set)


class Hub:
    """Gives results to listeners."""

    def __init__(self, hams: Hams, limit: int = LIMIT) -> None:
        self._hams = hams
        self._limit = limit
        self._channels: dict[tuple[str, str], _Channel] = {}
        self._opening = asyncio.Lock()
        self.closed = asyncio.Event()
        """Set once all clients are to end."""

    @asynccontextmanager
    async def listen(self, group: str, stream: str = "*") -> AsyncIterator[Listener]:
        """Follow the results of a group, or of one of its streams, from now on. Raises BrokerError."""
        key = group, stream
        listener = Listener(self._limit)
        async with self._opening:
            channel = self._channels.get(key) or await self._open(key)
            channel.listeners.add(listener)
        if self.closed.is_set():
            listener.close()
        try:
            yield listener
        finally:
            channel.listeners.discard(listener)
            if not channel.listeners and self._channels.get(key) is channel:
                del self._channels[key]
                await ended([channel.pump])
                await channel.feed.aclose()

    def close(self) -> None:
        """End all clients, those that come included."""
        self.closed.set()
        for channel in self._channels.values():
            for listener in channel.listeners:
                listener.close()

    async def _open(self, key: tuple[str, str]) -> _Channel:
        feed = await self._hams.results(*key, limit=4 * self._limit).__aenter__()
        listeners: set[Listener] = set()
        pump = asyncio.get_running_loop().create_task(_pump(feed, listeners), name=f"results of {key}")
        channel = self._channels[key] = _Channel(feed, pump, listeners)
        return channel


async def _pump(feed: Feed[Result], listeners: set[Listener]) -> None:
    """Give each result to all listeners; they end with the connection to the broker."""
    lost = 0
    while True:
        try:
            result = await anext(feed)
        except BrokerError as error:
            log.error("no more results: %s", error)
            for listener in listeners:
                listener.close()
            return
        if feed.lost > lost:
            for listener in listeners:
                listener.lose(feed.lost - lost)
            lost = feed.lost
        try:
            item = Item(f"{result.stream}/{result.frame}", msgspec.json.encode(result.data))
        except (TypeError, ValueError, KeyError, msgspec.MsgspecError) as error:  # of a task of the user's own
            log.warning("a result cannot be written as JSON: %s", error)
            continue
        for listener in listeners:
            listener.put(item)
