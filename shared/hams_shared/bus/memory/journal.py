"""Journals of the in-memory bus."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from hams_shared.bus.journal import check_message
from hams_shared.bus.memory.store import StoreClient, matches
from hams_shared.bus.protocol import Bounds, JournalEntry, Page, Place
from hams_shared.errors import RefusedError


class _Kept(NamedTuple):
    entry: JournalEntry
    """With its id."""
    stored: float
    """By the loop's clock, s."""
    until: float = math.inf
    """Where it has an age of its own."""


@dataclass
class MemoryJournal:
    """The messages of one journal, shared by all clients."""

    name: str
    subject: str
    bounds: Bounds
    kept: deque[_Kept] = field(default_factory=deque)
    """Bounded by `bounds`."""
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    last: int = 0
    _seen: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By id: when it was stored, and its sequence."""
    _size: int = 0
    _count: Counter[str] = field(default_factory=Counter)

    def wipe(self) -> None:
        """Lose everything, as a broker does whose disk was lost: what comes after is another journal."""
        self.kept.clear()
        self._seen.clear()
        self._count.clear()
        self._size = 0
        self.identity, self.last = uuid.uuid4().hex, 0

    def known(self, id: str, now: float) -> bool:
        """Whether a message with `id` would not be stored again."""
        return bool(id) and id in self._seen and self._seen[id][0] > now - self.bounds.duplicate_s

    def store(self, subject: str, data: bytes, id: str, now: float, age_s: float | None = None) -> int:
        """Store unless the id is known; return the sequence."""
        while self._seen and (oldest := next(iter(self._seen.items())))[1][0] <= now - self.bounds.duplicate_s:
            del self._seen[oldest[0]]
        if id and id in self._seen:
            return self._seen[id][1]
        self.last += 1
        if id:
            self._seen[id] = now, self.last
        until = now + age_s if age_s is not None and self.bounds.ages else math.inf
        self.kept.append(_Kept(JournalEntry(self.last, subject, data, id), now, until))
        self._size += len(data)
        self._count[subject] += 1
        self._discard(now, subject)
        return self.last

    def _discard(self, now: float, grown: str = "") -> None:
        """Discard what is beyond the bounds; `grown`: the subject that has one message more."""
        bounds, kept = self.bounds, self.kept
        if 0 <= bounds.per_subject < self._count[grown]:
            self._drop(next(one for one in kept if one.entry.subject == grown))
        while kept and (kept[0].stored <= now - bounds.age_s or self._size > bounds.bytes):
            self._drop(kept[0])
        if bounds.ages:
            for one in [one for one in kept if one.until <= now]:
                self._drop(one)

    def discard(self, subject: str, before: int) -> None:
        """Discard older messages."""
        for one in [one for one in self.kept if one.entry.sequence < before and matches(subject, one.entry.subject)]:
            self._drop(one)

    def newest(self, subject: str, now: float) -> JournalEntry | None:
        """Return the newest stored message, with its id."""
        self._discard(now)
        return next((one.entry for one in reversed(self.kept) if matches(subject, one.entry.subject)), None)

    def heard(self, subject: str) -> str:
        """Return the subject on which a stored message is sent to subscribers."""
        if not self.bounds.heard_on:
            return subject
        return self.bounds.heard_on.removesuffix(">") + subject.removeprefix(self.subject.partition("*")[0])

    def _drop(self, one: _Kept) -> None:
        self.kept.remove(one)
        self._size -= len(one.entry.data)
        self._count[one.entry.subject] -= 1

    def erase(self, sequence: int) -> None:
        """See :class:`hams_shared.bus.protocol.Journal`."""
        if self.bounds.append_only:
            raise RefusedError(f"journal {self.name} is append-only")
        for one in self.kept:
            if one.entry.sequence == sequence:
                self._drop(one)
                return

    def page(self, subject: str, place: Place, limit: int, limit_bytes: int, now: float) -> Page:
        """See :class:`hams_shared.bus.protocol.Journal`."""
        self._discard(now)
        at = place.sequence
        if place.journal not in ("", self.identity) or at > self.last:
            at = 0
        elif place.age_s is not None:
            young = [one.entry.sequence for one in self.kept if place.age_s > 0 and one.stored >= now - place.age_s]
            at = young[0] - 1 if young else self.last
        found: list[JournalEntry] = []
        size = 0
        for one in self.kept:
            if one.entry.sequence > at and matches(subject, one.entry.subject):
                found.append(replace(one.entry, id=""))
                size += len(one.entry.data)
                if len(found) == limit or size >= limit_bytes:
                    return Page(tuple(found), Place(one.entry.sequence, self.identity), more=True)
        return Page(tuple(found), Place(self.last, self.identity), more=False)


class JournalServer(Protocol):
    """The server as a journal's client sees it."""

    def deliver(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> int:
        """Send to subscribers."""
        ...


class MemoryJournalClient:
    """One client's view of a journal."""

    def __init__(self, bus: StoreClient, server: JournalServer, journal: MemoryJournal) -> None:
        self._bus = bus
        self._server = server
        self._journal = journal

    async def publish(self, subject: str, data: bytes, id: str, age_s: float | None = None) -> int:
        """Send to all subscribers, store, and return the sequence."""
        check_message(subject, data, id, self._bus.max_payload)
        await self._bus.reachable(f"publish on {subject}")
        now, journal = asyncio.get_running_loop().time(), self._journal
        again = journal.known(id, now)
        sequence = journal.store(subject, bytes(data), id, now, age_s)
        if not (again and journal.bounds.heard_on):
            self._server.deliver(journal.heard(subject), bytes(data), "", {})
        await asyncio.sleep(0)
        return sequence

    async def erase(self, sequence: int) -> None:
        """Take a message out."""
        await self._bus.reachable(f"journal {self._journal.name}")
        self._journal.erase(sequence)

    async def last(self, subject: str) -> JournalEntry | None:
        """Return the newest stored message."""
        await self._bus.reachable(f"journal {self._journal.name}")
        return self._journal.newest(subject, asyncio.get_running_loop().time())

    async def discard(self, subject: str, before: int) -> None:
        """Discard older messages."""
        await self._bus.reachable(f"journal {self._journal.name}")
        self._journal.discard(subject, before)

    async def page(self, subject: str, place: Place, *, limit: int = 128, limit_bytes: int = 262_144) -> Page:
        """Return stored messages from `place` on."""
        await self._bus.reachable(f"journal {self._journal.name}")
        await asyncio.sleep(0)
        return self._journal.page(subject, place, limit, limit_bytes, asyncio.get_running_loop().time())
