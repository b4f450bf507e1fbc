"""What the parts share: who they are, what they send one another, and the place where it all is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel

from hams_shared.wire import codec
from hams_shared.wire.frames import FrameId, Output
from hams_shared.wire.messages.agents import Heartbeat
from support.cores.store import Bucket, Client, View, run


@dataclass(frozen=True)
class Work:
    """A frame, or the crops of one, for a node. No pixels."""

    id: FrameId
    node: str
    route: dict[str, str]


Message = Heartbeat | Work | Output


@dataclass(frozen=True, order=True)
class Link:
    """Messages of one kind from one part to another: they stay in order, unless they are lost."""

    kind: str
    source: str
    to: str


class Place(Protocol):
    """What a part sees of the world."""

    now: float
    buckets: dict[str, Bucket]

    def send(self, link: Link, message: Message) -> None:
        """Publish: at most once."""
        ...


@dataclass(eq=False, repr=False)
class Part:
    """A process: its connection, its clock, whether it lives."""

    world: Place
    name: str
    skew: float = 0.0
    client: Client = field(default_factory=Client)
    alive: bool = False

    def __repr__(self) -> str:
        return self.name

    @property
    def now(self) -> float:
        """Its own monotonic time, s."""
        return self.world.now + self.skew

    @property
    def reachable(self) -> bool:
        """Whether it can send and be sent to."""
        return self.alive and self.client.connected

    def view(self, bucket: str) -> View:
        return View(self.client, self.world.buckets[bucket])

    def put(self, bucket: str, key: str, record: BaseModel) -> None:
        run(self.view(bucket).put(key, codec.encode(record)))


Queue = deque[Message]
