"""Whose work a device does next: weighted fair queueing over groups and over a group's nodes. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each account has a virtual time that grows with what it
was given, divided by its weight; the one furthest behind is served. An account that was idle starts at the current
virtual time, so it cannot save up turns.

Groups of a higher priority go first, so that under overload the lower ones give way. Groups of one priority are given
frames, not time: a frame of one group counts as much as a frame of another, weighted by their targets and shares. That
is what plans promise (the smallest achieved/target is largest), whatever the networks really cost. Within a group the
nodes deepest in its graph go first, since their frames are nearest to their end and make room for new ones; nodes of
one depth share time fairly, and a node's streams take turns. What work costs is known only afterwards, so it is
charged then, and an estimate from earlier work stands in for it meanwhile.

Work of one node may be run together (a batch), at most `MAX_IMAGES` images; a node with a latency budget is held until
its oldest work has waited for that long, or the batch is full. Work without images (a frame without crops) is held
only behind other work of its stream.
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
    pieces: float = 1.0
    """Pieces of the group's work, of all its nodes here, that make one turn."""
    depth: int = 0
    """The node's ancestors in its group."""
    joins: bool = False
    """Whether work of several frames may be run together."""
    wait_s: float = 0.0
    """How long work may wait for more to be run together with, s."""


@dataclass(frozen=True)
class Turn(Generic[T]):
    """Work of one node, taken to be run together."""

    key: Key
    priority: int
    depth: int
    items: list[T]


@dataclass
class _Item(Generic[T]):
    value: T
    images: int
    arrived: float


@dataclass
class _Group:
    virtual: float = 0.0
    waiting: int = 0
    """Pieces of work that wait."""


@dataclass
class _Node(Generic[T]):
    terms: Terms
    group: _Group
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
        return 0.0 if self.empty() is not None else self.held(now)

    def empty(self) -> str | None:
        """Return a stream whose first work has no images."""
        return next((stream for stream, items in self.streams.items() if not items[0].images), None)

    def held(self, now: float) -> float:
        """Seconds for which work with images waits for more; 0: it may be run."""
        if not self.terms.joins or self.terms.wait_s <= 0 or self.images() >= MAX_IMAGES:
            return 0.0
        return max(0.0, self.oldest() + self.terms.wait_s - now)

    def turn(self) -> tuple[float, float, float, float, float]:
        """The least goes first."""
        return -self.terms.priority, self.group.virtual, -self.terms.depth, self.virtual, self.oldest()


@dataclass
class FairQueue(Generic[T]):
    """Work waiting for one device. `now` is a monotonic time, s."""

    size: int = 0
    _nodes: dict[Key, _Node[T]] = field(default_factory=dict)
    _groups: dict[str, _Group] = field(default_factory=dict)
    _group_virtual: float = 0.0
    _node_virtual: float = 0.0

    def push(self, key: Key, stream: str, value: T, images: int, terms: Terms, now: float) -> None:
        """Queue one piece of work of `images` images."""
        group = self._groups.setdefault(key[0], _Group())
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node(terms, group)
        node.terms = terms
        if not group.waiting:
            group.virtual = max(group.virtual, self._group_virtual)
        if not node.streams:
            node.virtual = max(node.virtual, self._node_virtual)
        node.streams.setdefault(stream, deque()).append(_Item(value, images, now))
        group.waiting += 1
        self.size += 1

    def pop(self, now: float, over: Turn[T] | None = None) -> Turn[T] | None:
        """Take what is to be run next; None when nothing is due (see :meth:`wait`).

        With `over` only work that may overtake that turn: of a higher priority, or deeper in the same group.
        """
        due = [(key, node) for key, node in self._candidates(over) if node.due(now) <= 0]
        if not due:
            return None
        key, node = min(due, key=lambda one: one[1].turn())
        self._group_virtual = max(self._group_virtual, node.group.virtual)
        self._node_virtual = max(self._node_virtual, node.virtual)
        most = MAX_IMAGES
        if node.held(now) > 0 and (stream := node.empty()) is not None:
            most = 0
            node.streams.move_to_end(stream, last=False)
        taken = [self._take(node)]
        images = taken[0].images
        while node.terms.joins and node.streams:
            upcoming = next(iter(node.streams.values()))[0]
            if images + upcoming.images > most:
                break
            taken.append(self._take(node))
            images += upcoming.images
        node.pending += node.estimate * len(taken)
        node.virtual += node.estimate * len(taken)
        node.group.virtual += len(taken) / node.terms.pieces
        return Turn(key, node.terms.priority, node.terms.depth, [item.value for item in taken])

    def charge(self, key: Key, pieces: int, seconds: float) -> None:
        """`pieces` pieces of work of one :meth:`pop` took `seconds` together."""
        node = self._nodes.get(key)
        if node is None:
            return
        expected = min(node.pending, node.estimate * pieces)
        node.pending -= expected
        node.virtual += seconds - expected
        if seconds <= 0:  # there was nothing to compute
            return
        each = seconds / pieces
        node.estimate = node.estimate + SMOOTHING * (each - node.estimate) if node.measured else each
        node.measured = True

    def wait(self, now: float, over: Turn[T] | None = None) -> float | None:
        """Seconds until :meth:`pop` has something; None when nothing waits for it."""
        return min((node.due(now) for _, node in self._candidates(over)), default=None)

    def forget(self, group: str) -> None:
        """Drop the accounts of a group that is gone, where nothing waits."""
        account = self._groups.get(group)
        if account is None or account.waiting:
            return
        del self._groups[group]
        for key in [k for k in self._nodes if k[0] == group]:
            del self._nodes[key]

    def _candidates(self, over: Turn[T] | None) -> list[tuple[Key, _Node[T]]]:
        return [
            (key, node)
            for key, node in self._nodes.items()
            if node.streams
            and (
                over is None
                or node.terms.priority > over.priority
                or (key[0] == over.key[0] and node.terms.depth > over.depth)
            )
        ]

    def _take(self, node: _Node[T]) -> _Item[T]:
        stream, items = next(iter(node.streams.items()))
        item = items.popleft()
        if items:
            node.streams.move_to_end(stream)
        else:
            del node.streams[stream]
        node.group.waiting -= 1
        self.size -= 1
        return item
