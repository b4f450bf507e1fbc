"""Writes of decisions: one per key waits, one that the broker never takes is given up, and an outage loses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hams_scheduler.events import DeletePlan, Event, PlanRefused, StorePlan
from hams_scheduler.leader.lease import Lease
from hams_scheduler.leader.lease_store import Leadership
from hams_scheduler.leader.plan_store import PlanStore, WriteQueue
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import KeyValue
from hams_shared.bus.records import watched
from hams_shared.wire import codec
from hams_shared.wire.messages.plan import PlanRecord
from support.build import group_spec, plan
from support.wait import until


class Bench:
    """Writes to a store in memory."""

    def __init__(self, server: MemoryServer, plans: KeyValue, profiles: KeyValue, leader: KeyValue) -> None:
        self.server = server
        self.plans = plans
        self.reported: list[Event] = []
        self.epochs: dict[str, int] = {}
        """By group: the epoch of the plan in the store."""
        self.lease = Lease("me")
        self.leadership = Leadership(leader, self.lease, self._lead, self._follow)
        self.writes = WriteQueue(
            PlanStore(plans), profiles, self.lease, self.reported.append, self.leadership.step_down
        )

    async def _lead(self, term: int) -> None:
        self.lease.begin()

    async def _follow(self) -> None: ...

    async def watch(self) -> None:
        """Take note of what is written."""
        async for group, record in watched(self.plans, PlanRecord):
            if record is not None:
                self.epochs[group] = record.newest


def record(group: str, epoch: int) -> PlanRecord:
    """A plan."""
    return PlanRecord(group=group, active=plan(epoch, {"det": "h.b.u", "age": "h.b.u"}, group_spec(name=group)))


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Writes of a scheduler that leads."""
    server = MemoryServer()
    async with InMemoryBus(server) as bus, asyncio.TaskGroup() as owner:
        made = Bench(server, *[await bus.kv(name) for name in ("plans", "profiles", "leader")])
        tasks = [owner.create_task(job()) for job in (made.leadership.run, made.writes.run, made.watch)]
        await until(lambda: made.lease.led > 0)
        yield made
        for task in tasks:
            task.cancel()


async def test_a_newer_write_takes_the_place_of_an_older_one_and_others_keep_their_turn() -> None:
    async with bench() as b:
        for epoch in range(1, 1000):  # nothing is written before we wait
            b.writes.put(StorePlan(record("face", epoch)))
        b.writes.put(DeletePlan("gone"))
        assert len(b.writes) == 2
        await until(lambda: not len(b.writes))
        await until(lambda: b.epochs.get("face") == 999)


async def test_one_that_is_too_large_is_reported_and_the_next_is_written() -> None:
    async with bench() as b:
        size = len(codec.encode(record("small", 1)))
        large = PlanRecord(group="large" * size, active=record("large", 1).active)
        b.server.max_payload = size + 100
        b.writes.put(StorePlan(large))
        b.writes.put(StorePlan(record("small", 1)))
        await until(lambda: "small" in b.epochs)
        assert [type(event) for event in b.reported] == [PlanRefused]
