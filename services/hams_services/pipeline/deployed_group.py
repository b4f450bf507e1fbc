"""A deployed group as the pipeline runs it: its flows, their tasks, and who waits for single images."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, TypedDict

from hams_services.pipeline.core import Close
from hams_services.pipeline.flow import Flow, Peers
from hams_services.pipeline.gallery import Galleries
from hams_services.pipeline.routing import Replicas
from hams_services.pipeline.stream import StreamRunner
from hams_shared.bus.protocol import Subscription
from hams_shared.runtime.clock import Clock
from hams_shared.wire.messages import GroupRecord, Plan


def root_limit(plan: Plan, streams: int) -> int:
    """Frames each of so many live streams may have waiting at the first node: two for each of its devices in all.

    One is worked on and one is ready to follow; more would only grow old in the device's queue.
    """
    return max(1, -(-2 * len(plan.shares[plan.group.spec.root]) // max(streams, 1)))


class Shared(TypedDict):
    """What all streams of a group have in common."""

    clock: Clock
    peers: Peers
    replicas: Replicas
    galleries: Galleries


@dataclass
class Group:
    """A deployed group as the pipeline runs it."""

    record: GroupRecord
    infer: Flow
    infer_name: str
    runners: dict[str, StreamRunner] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    answers: dict[int, asyncio.Future[tuple[Close, dict[str, Any] | None]]] = field(default_factory=dict)

    def flows(self) -> dict[str, Flow]:
        """All flows by stream name."""
        return {self.infer_name: self.infer, **{name: r.flow for name, r in self.runners.items()}}
