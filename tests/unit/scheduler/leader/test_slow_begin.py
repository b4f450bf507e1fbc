"""A scheduler that needs longer to fence its plans than a lease lasts begins to lead all the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hams_scheduler.leader.lease import LEASE_S, Lease
from hams_scheduler.leader.lease_store import Leadership
from hams_scheduler.leader.plan_store import PlanStore
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import BrokerError, HamsError
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.wire import codec
from hams_shared.wire.messages.plan import PlanRecord
from support.build import group_spec, plan
from support.wait import until

LONG_S = LEASE_S + 0.7


class Scheduler:
    """Takes part in the choice of the leader; begins by `begin`."""

    def __init__(
        self, name: str, bucket: KeyValue, begin: Callable[[], Awaitable[None]], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.lease = Lease(name)
        self.begin = begin
        self.led: list[int] = []
        self.attempts = 0
        self.leadership = Leadership(bucket, self.lease, self._lead, self._follow, clock)

    async def _lead(self, term: int) -> None:
        self.attempts += 1
        await self.begin()
        self.lease.begin()
        self.led.append(term)

    async def _follow(self) -> None: ...


class TickingClock:
    """Goes on only while this process does: little time passes where the machine gives it none."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        condition.wait(timeout)

    async def run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            passed, last = time.monotonic() - last, time.monotonic()
            self._now += min(passed, 0.2)

    async def pass_long(self) -> None:
        end = self._now + LONG_S
        await until(lambda: self._now >= end, 4 * LONG_S)


async def test_the_lease_is_held_while_a_scheduler_begins() -> None:
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner:
        bucket = await bus.kv("leader")
        clock = TickingClock()
        slow, standby = (Scheduler(name, bucket, clock.pass_long, clock) for name in ("slow", "standby"))
        tasks = [owner.create_task(clock.run()), owner.create_task(slow.leadership.run())]
        await until(lambda: slow.lease.holds)
        tasks.append(owner.create_task(standby.leadership.run()))
        await until(lambda: slow.led != [], 5 * LONG_S)
        await asyncio.sleep(1.0)
        assert (slow.led, slow.attempts, slow.lease.led) == ([1], 1, 1)
        assert (standby.attempts, standby.lease.led) == (0, 0)
        for task in tasks:
            task.cancel()


async def test_one_that_loses_the_lease_meanwhile_does_not_begin() -> None:
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner:
        bucket, ended = await bus.kv("leader"), []

        async def wait() -> None:
            try:
                await asyncio.sleep(60.0)
            finally:
                ended.append("before it began")

        one = Scheduler("one", bucket, wait)
        task = owner.create_task(one.leadership.run())
        await until(lambda: one.attempts == 1)
        claim = one.leadership.record.model_copy(update={"holder": "other", "term": 7})
        await bucket.put("scheduler", codec.encode(claim))
        await until(lambda: ended != [])
        assert (one.led, one.lease.led, one.lease.holds) == ([], 0, False)
        task.cancel()


async def test_what_fails_is_tried_again() -> None:
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner:
        bucket = await bus.kv("leader")

        async def fail_once() -> None:
            if one.attempts == 1:
                raise BrokerError("the store is away")

        one = Scheduler("one", bucket, fail_once)
        task = owner.create_task(one.leadership.run())
        await until(lambda: one.led != [])
        assert (one.led, one.attempts) == ([1], 2)
        task.cancel()


class Failing:
    """A bucket that takes so many updates."""

    def __init__(self, bucket: KeyValue, takes: int) -> None:
        self.bucket = bucket
        self.takes = takes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bucket, name)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        if not self.takes:
            raise BrokerError("the store is away")
        self.takes -= 1
        return await self.bucket.update(key, value, revision)


async def test_a_fence_goes_on_where_it_ended() -> None:
    async with InMemoryBus(MemoryServer()) as bus:
        bucket = await bus.kv("plans")
        for name in ("a", "b", "c"):
            spec = group_spec(name=name)
            record = PlanRecord(group=name, active=plan(1, {"det": "h.b.u", "age": "h.b.u"}, spec), term=1)
            await bucket.put(name, codec.encode(record))
        failing = Failing(bucket, 2)
        store = PlanStore(failing)
        with pytest.raises(HamsError):
            await store.fence(2)
        failing.takes = 1
        assert {record.group for record in await store.fence(2)} == {"a", "b", "c"}
        assert failing.takes == 0
        found = [codec.decode(PlanRecord, entry.value or b"") for entry in (await bucket.entries()).values()]
        assert {record.term for record in found} == {2}
        failing.takes = 3
        await store.fence(3)
        assert failing.takes == 0
        for name in ("a", "b", "c"):
            await store.delete(name, 3)
        assert store.written == {"a", "b", "c"}
