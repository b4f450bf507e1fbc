"""The key-value store: buckets with revisions, and watches that tell the newest value of every key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from hams_shared.bus.protocol import Entry
from hams_shared.bus.watch import WatchState
from hams_shared.errors import BrokerError, RefusedError
from hams_shared.wire import codec

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

BUCKETS = ("groups", "devices", "profiles", "plans", "health")


@dataclass(eq=False, repr=False)
class Client:
    """One part's connection."""

    connected: bool = True
    generation: int = 0
    """Counts its reconnections."""
    closed: bool = False


@dataclass
class Bucket:
    """Its newest entries; a deleted key stays, as JetStream's markers do."""

    values: dict[str, Entry] = field(default_factory=dict)
    revision: int = 0
    watches: list[Watch[Any]] = field(default_factory=list)
    written: Callable[[Entry, bool], None] = lambda *_: None
    """Called with every value that is stored, and whether it had been lost."""

    def store(self, key: str, value: bytes | None, *, restored: bool = False) -> int:
        self.revision += 1
        self.values.pop(key, None)
        entry = self.values[key] = Entry(key, value, self.revision)
        self.written(entry, restored)
        self.watches = [watch for watch in self.watches if not watch.client.closed]
        for watch in self.watches:
            watch.tell(entry)
        return self.revision

    def present(self) -> dict[str, Entry]:
        return {key: entry for key, entry in self.values.items() if entry.value is not None}

    def wipe(self) -> None:
        """The values are lost. Not what says that keys were deleted: else who missed that would write them back."""
        self.values = {key: entry for key, entry in self.values.items() if entry.value is None}


class View:
    """A bucket as a client reaches it: what :class:`hams_shared.bus.protocol.KeyValue` has, without its watch."""

    def __init__(self, client: Client, bucket: Bucket) -> None:
        self.client = client
        self._bucket = bucket

    def _check(self) -> None:
        if not self.client.connected:
            raise BrokerError("the broker is away")

    async def get(self, key: str) -> Entry | None:
        return (await self.entries()).get(key)

    async def put(self, key: str, value: bytes) -> int:
        self._check()
        return self._bucket.store(key, value)

    async def create(self, key: str, value: bytes) -> int:
        if await self.get(key) is not None:
            raise RefusedError(f"{key} is there")
        return await self.put(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self._check()
        entry = self._bucket.values.get(key)
        if (entry.revision if entry else 0) != revision:
            raise RefusedError(f"{key} was changed")
        return await self.put(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        entry = await self.get(key)
        if entry is None:
            return
        if revision is not None and entry.revision != revision:
            raise RefusedError(f"{key} was changed")
        self._bucket.store(key, None)

    async def entries(self) -> dict[str, Entry]:
        self._check()
        return self._bucket.present()


def run(job: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        job.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the store never waits")


class Watch(Generic[M]):
    """What :func:`hams_shared.bus.records.changes` yields, one by one: lost entries are written back first."""

    def __init__(self, client: Client, bucket: Bucket, kind: type[M]) -> None:
        self.client = client
        self._bucket = bucket
        self._kind = kind
        self._state = WatchState()
        self._generation = -1
        self.fresh = False
        """Whether there may be news."""
        self._unread: deque[Entry] = deque()
        self._held: dict[str, bytes] = {}
        bucket.watches.append(self)

    def tell(self, entry: Entry) -> None:
        if self.client.connected and self._generation == self.client.generation:
            self._state.add(entry)
            self.fresh = True

    def renew(self) -> None:
        """Begin anew: all that is there is read again."""
        self._generation = -1

    def take(self) -> tuple[Entry, M | None] | None:
        """The next news and its record, None for one deleted or lost; None: there is no news."""
        if self.client.connected and self._generation != self.client.generation:
            self._generation = self.client.generation
            self._state.begin()
            for entry in self._bucket.values.values():
                self._state.add(entry)
            self._state.end()
            self.fresh = True
        if not self._unread and self.fresh:
            self._unread.extend(entry for entry in self._state.take() if entry is not None)
            self.fresh = False
        if not self._unread:
            return None
        entry = self._unread.popleft()
        if entry.lost:
            value = self._held.get(entry.key)
            if value is not None and self.client.connected and entry.key not in self._bucket.values:
                self._bucket.store(entry.key, value, restored=True)
            return entry, None
        if entry.value is None:
            self._held.pop(entry.key, None)
            return entry, None
        self._held[entry.key] = entry.value
        return entry, decoded(self._kind, entry.value)


@lru_cache(maxsize=256)
def decoded(kind: type[M], value: bytes) -> M:
    """A record; it is frozen, so that all may have the same."""
    return codec.decode(kind, value)
