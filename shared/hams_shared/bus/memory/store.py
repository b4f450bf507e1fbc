"""Key-value buckets and object stores of the in-memory bus."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from hams_shared.bus.protocol import Entry
from hams_shared.bus.wakers import Wakers
from hams_shared.bus.watch import WatchState
from hams_shared.errors import BadInputError, NotFoundError, RefusedError, TooLargeError

_KEY = re.compile(r"(?!\.)[-/_=.a-zA-Z0-9]+(?<!\.)")


def matches(pattern: str, subject: str) -> bool:
    """Whether `subject` falls under `pattern` (``*`` one token, a final ``>`` one or more)."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(given) > i
        if i >= len(given) or token not in ("*", given[i]):
            return False
    return len(wanted) == len(given)


@dataclass
class MemoryBucket:
    """The values of one bucket, shared by all clients."""

    name: str
    values: dict[str, Entry] = field(default_factory=dict)
    """Newest entry per key; deleted keys stay with ``value=None``, as JetStream's markers do."""
    watchers: set[Callable[[Entry], None]] = field(default_factory=set)
    revision: int = 0

    def wipe(self) -> None:
        """Lose everything, as a broker does whose disk was lost."""
        self.values.clear()
        self.revision = 0

    def store(self, key: str, value: bytes | None) -> int:
        """Store (None: delete) and notify the watchers; return the new revision."""
        self.revision += 1
        # Re-insert: the order is that of the newest changes.
        self.values.pop(key, None)
        entry = self.values[key] = Entry(key, value, self.revision)
        for notify in list(self.watchers):
            notify(entry)
        return self.revision


class StoreClient(Protocol):
    """The client as its stores see it."""

    @property
    def closed(self) -> bool:
        """Whether it is not (or no longer) open."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the server is in reach."""
        ...

    @property
    def max_payload(self) -> int:
        """Largest value, bytes."""
        ...

    generation: int
    wakers: Wakers

    def check_open(self) -> None:
        """Raise BrokerError when closed."""
        ...

    async def reachable(self, what: str) -> None:
        """Wait until the server is in reach. Raises DeadlineError, or BrokerError when closed."""
        ...


class MemoryKeyValue:
    """One client's view of a bucket."""

    def __init__(self, bus: StoreClient, bucket: MemoryBucket) -> None:
        self._bus = bus
        self._bucket = bucket

    async def _check(self, key: str, value: bytes = b"") -> None:
        if not _KEY.fullmatch(key):
            raise BadInputError(f"bucket {self._bucket.name}, {key}: not a valid key (letters, digits and -/_=. only)")
        if len(value) > self._bus.max_payload:
            raise TooLargeError(
                f"bucket {self._bucket.name}, {key}: {len(value)} bytes; a value has {self._bus.max_payload} at most"
            )
        await self._bus.reachable(f"bucket {self._bucket.name}, {key}")

    async def get(self, key: str) -> Entry | None:
        """Return the newest value, or None when there is none or it was deleted."""
        await self._check(key)
        entry = self._bucket.values.get(key)
        return None if entry is None or entry.value is None else entry

    async def put(self, key: str, value: bytes) -> int:
        """Store, whatever is there; return the new revision."""
        await self._check(key, value)
        return self._bucket.store(key, bytes(value))

    async def create(self, key: str, value: bytes) -> int:
        """Store only if absent (or deleted). Raises RefusedError when present."""
        if await self.get(key) is not None:
            raise self._changed(key)
        return await self.put(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Store only if the newest revision is `revision`. Raises RefusedError when it is not."""
        await self._check(key, value)
        entry = self._bucket.values.get(key)
        if (entry.revision if entry else 0) != revision:
            raise self._changed(key)
        return self._bucket.store(key, bytes(value))

    def _changed(self, key: str) -> RefusedError:
        return RefusedError(f"bucket {self._bucket.name}, {key}: the key was changed by someone else", "read it again")

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Delete; no error when absent."""
        entry = await self.get(key)
        if entry is None:
            return
        if revision is not None and entry.revision != revision:
            raise self._changed(key)
        self._bucket.store(key, None)

    async def entries(self) -> dict[str, Entry]:
        """All present keys with their values."""
        await self._bus.reachable(f"bucket {self._bucket.name}")
        return {key: entry for key, entry in self._bucket.values.items() if entry.value is not None}

    async def watch(self, key: str = ">") -> AsyncGenerator[Entry | None, None]:
        """Yield all present entries, one None, then every change. See :class:`hams_shared.bus.protocol.KeyValue`."""
        self._bus.check_open()
        state = WatchState()
        generation = 0
        with self._bus.wakers.event() as wake:

            def notify(entry: Entry) -> None:
                if self._bus.connected and matches(key, entry.key):
                    state.add(entry)
                    wake.set()

            self._bucket.watchers.add(notify)
            try:
                while not self._bus.closed:
                    wake.clear()
                    if self._bus.connected and generation != self._bus.generation:
                        generation = self._bus.generation  # the server was away: it may hold less than before
                        state.begin()
                        for entry in list(self._bucket.values.values()):
                            notify(entry)
                        state.end()
                        wake.clear()
                    for news in state.take():
                        yield news
                    if not self._bus.closed and not wake.is_set():
                        await wake.wait()
            finally:
                self._bucket.watchers.discard(notify)


class MemoryObjects:
    """One client's view of an object store."""

    def __init__(self, bus: StoreClient, bucket: str, objects: dict[str, bytes]) -> None:
        self._bus = bus
        self._bucket = bucket
        self._objects = objects

    async def put(self, name: str, data: bytes, progress: Callable[[int], None] | None = None) -> None:
        """Store `data` under `name`."""
        await self._bus.reachable(f"bucket {self._bucket}")
        self._objects[name] = bytes(data)
        await asyncio.sleep(0)
        if progress is not None and data:
            progress(len(data))

    async def get(self, name: str, progress: Callable[[int], None] | None = None) -> bytes:
        """Return the object. Raises NotFoundError."""
        await self._bus.reachable(f"bucket {self._bucket}")
        data = self._objects.get(name)
        if data is None:
            raise NotFoundError(f"bucket {self._bucket}: {name} is not stored")
        await asyncio.sleep(0)
        if progress is not None and data:
            progress(len(data))
        return data

    async def exists(self, name: str) -> bool:
        """Whether `name` is stored."""
        await self._bus.reachable(f"bucket {self._bucket}")
        return name in self._objects

    async def sizes(self) -> dict[str, int]:
        """Bytes of all objects, by name."""
        await self._bus.reachable(f"bucket {self._bucket}")
        return {name: len(data) for name, data in self._objects.items()}

    async def delete(self, name: str) -> None:
        """Delete; no error when absent."""
        await self._bus.reachable(f"bucket {self._bucket}")
        self._objects.pop(name, None)
