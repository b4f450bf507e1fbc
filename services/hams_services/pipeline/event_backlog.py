"""The events that wait for the broker, in order: bounded, and what gives way when it is full. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Waiting:
    """One encoded event."""

    number: int
    """Counts the events that were put, from 1."""
    id: str
    kind: str
    subject: str
    data: bytes


@dataclass
class Backlog:
    """At most `limit` events of `limit_bytes` in all.

    When it is full, an `update` gives way first, the oldest one that waits: a later one of the same track replaces it.
    Where none waits, the oldest event gives way.
    """

    limit: int
    limit_bytes: int
    put: int = 0
    """Events put so far."""
    size: int = 0
    """Bytes of those that wait."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Events that gave way, by kind."""
    _waiting: dict[int, Waiting] = field(default_factory=dict)
    _updates: dict[int, None] = field(default_factory=dict)
    """Numbers of the updates that wait, in order."""
    _taken: int = 0
    """Number of the event that is being published: it does not give way."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, id: str, kind: str, subject: str, data: bytes) -> None:
        """Put one event behind the others."""
        self.put += 1
        self._waiting[self.put] = Waiting(self.put, id, kind, subject, data)
        self.size += len(data)
        if kind == "update":
            self._updates[self.put] = None
        while len(self._waiting) > 1 and (len(self._waiting) > self.limit or self.size > self.limit_bytes):
            gone = self._least()
            self.dropped[gone.kind] += 1
            self.settle(gone.number)

    def first(self) -> Waiting | None:
        """Return the event that is to be published next; it stays until it is settled."""
        first = next(iter(self._waiting.values()), None)
        self._taken = first.number if first is not None else 0
        return first

    def settle(self, number: int) -> None:
        """Forget an event: it is stored, or given up. One that gave way meanwhile is no error."""
        gone = self._waiting.pop(number, None)
        if gone is not None:
            self.size -= len(gone.data)
        self._updates.pop(number, None)

    def settled(self, number: int) -> bool:
        """Whether none of the first `number` events waits any more."""
        return next(iter(self._waiting), number + 1) > number

    def _least(self) -> Waiting:
        oldest = (number for numbers in (self._updates, self._waiting) for number in numbers)
        return next(self._waiting[one] for one in oldest if one != self._taken)

    def validate(self) -> None:
        """Raise AssertionError when its books are wrong."""
        assert list(self._waiting) == sorted(self._waiting)
        assert self.size == sum(len(one.data) for one in self._waiting.values())
        assert len(self._waiting) <= max(self.limit, 1)
        waiting = [one.number for one in self._waiting.values() if one.kind == "update"]
        assert list(self._updates) == waiting
