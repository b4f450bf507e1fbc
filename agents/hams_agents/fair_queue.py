"""Whose work a device does next: weighted fair queueing over nodes, round robin over a node's streams. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each node has a virtual time that grows by what its work
cost, divided by the node's weight; the node furthest behind is served. A node that was idle starts at the current
virtual time, so it cannot save up turns. What a piece of work costs is known only afterwards, so it is charged then,
and an estimate from earlier work stands in for it meanwhile.

Groups of a higher priority go first, so that under overload the lower ones give way.

Work of one node may be run together (a batch), at most `MAX_IMAGES` images; a node with a latency budget is held until
its oldest work has waited for that long, or the batch is full.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Key = tuple[str, str]
"""Group and node."""

MAX_IMAGES = 8
"""Images of several frames are run together up to this number; one frame's own images always are."""
FIRST_GUESS_S = 0.001
"""Cost of a piece of work before any was measured, s."""
SMOOTHING = 0.2
"""Weight of the newest cost in the estimate."""


@dataclass(frozen=True)
class Terms:
    """On which terms a node's work is done."""

    priority: int = 0
    weight: float = 1.0
    joins: bool = False
    """Whether work of several frames may be run together."""
    wait_s: float = 0.0
    """How long work may wait for more to be run together with, s."""


@dataclass
class _Item(Generic[T]):
    value: T
    images: int
    arrived: float


@dataclass
class _Node(Generic[T]):
    terms: Terms
    streams: OrderedDict[str, deque[_Item[T]]] = field(default_factory=OrderedDict)
    virtual: float = 0.0
    estimate: float = FIRST_GUESS_S
    """Cost of one piece of work, s."""
    measured: bool = False
    pending: float = 0.0
    """Estimates of work taken and not charged yet."""

    def oldest(self) -> float:
        return min(items[0].arrived for items in self.streams.values())

    def images(self) -> int:
        return sum(item.images for items in self.streams.values() for item in items)

    def due(self, now: float) -> float:
        """Seconds until the node may be served; 0: now."""
        if not self.terms.joins or self.terms.wait_s <= 0 or self.images() >= MAX_IMAGES:
            return 0.0
        return max(0.0, self.oldest() + self.terms.wait_s - now)


@dataclass
class FairQueue(Generic[T]):
    """Work waiting for one device. `now` is a monotonic time, s."""

    size: int = 0
    _nodes: dict[Key, _Node[T]] = field(default_factory=dict)
    _virtual: float = 0.0

    def push(self, key: Key, stream: str, value: T, images: int, terms: Terms, now: float) -> None:
        """Queue one piece of work of `images` images."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node(terms, virtual=self._virtual)
        node.terms = terms
        if not node.streams:
            node.virtual = max(node.virtual, self._virtual)
        node.streams.setdefault(stream, deque()).append(_Item(value, images, now))
        self.size += 1

    def pop(self, now: float) -> tuple[Key, list[T]] | None:
        """Take what is to be run next; None when nothing is due (see :meth:`wait`)."""
        due = [(key, node) for key, node in self._nodes.items() if node.streams and node.due(now) <= 0]
        if not due:
            return None
        key, node = min(due, key=lambda one: (-one[1].terms.priority, one[1].virtual, one[1].oldest()))
        self._virtual = max(self._virtual, node.virtual)
        taken = [self._take(node)]
        images = taken[0].images
        while node.terms.joins and node.streams:
            upcoming = next(iter(node.streams.values()))[0]
            if images + upcoming.images > MAX_IMAGES:
                break
            taken.append(self._take(node))
            images += upcoming.images
        node.pending += node.estimate * len(taken)
        node.virtual += node.estimate * len(taken) / node.terms.weight
        return key, [item.value for item in taken]

    def charge(self, key: Key, pieces: int, seconds: float) -> None:
        """`pieces` pieces of work of one :meth:`pop` took `seconds` together."""
        node = self._nodes.get(key)
        if node is None:
            return
        expected = min(node.pending, node.estimate * pieces)
        node.pending -= expected
        node.virtual += (seconds - expected) / node.terms.weight
        if seconds <= 0:  # there was nothing to compute
            return
        each = seconds / pieces
        node.estimate = node.estimate + SMOOTHING * (each - node.estimate) if node.measured else each
        node.measured = True

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None when nothing waits."""
        return min((node.due(now) for node in self._nodes.values() if node.streams), default=None)

    def forget(self, group: str) -> None:
        """Drop the accounts of a group that is gone, where nothing waits."""
        for key in [k for k, node in self._nodes.items() if k[0] == group and not node.streams]:
            del self._nodes[key]

    def _take(self, node: _Node[T]) -> _Item[T]:
        stream, items = next(iter(node.streams.items()))
        item = items.popleft()
        if items:
            node.streams.move_to_end(stream)
        else:
            del node.streams[stream]
        self.size -= 1
        return item
