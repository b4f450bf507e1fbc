"""The history of a running system: what happened is told once, in order, with reasons, whoever leads."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from hams_client import HistoryEntry
from hams_scheduler.service import SchedulerService
from support.world.parts import Part
from support.world.stub import StubDevice
from support.world.system import System, light

FAST, SLOW = "box.stub.fast", "box.stub.slow"
START = ["leader", "device-here", "device-here", "group-deployed", "plan", "plan-active"]


async def told(world: System, **only: Any) -> list[HistoryEntry]:
    """The entries that are stored."""
    return [entry async for entry in world.hams.history(since=3600.0, follow=False, **only)]


async def kinds(world: System) -> list[str]:
    return [entry.kind for entry in await told(world)]


async def until_told(world: System, *wanted: str) -> list[HistoryEntry]:
    """Wait until these kinds, and no others, are told after those of the start; return their entries."""
    await world.until(lambda: is_told(world, *START, *wanted))
    return (await told(world))[len(START) :]


async def is_told(world: System, *wanted: str) -> bool:
    return await kinds(world) == list(wanted)


async def serving(world: System, *schedulers: str) -> list[Part[SchedulerService]]:
    """A group on the faster of two devices; the schedulers, the one that leads first."""
    parts = [world.scheduler(name) for name in schedulers or ("scheduler",)]
    world.pipeline()
    world.agent("fast", StubDevice(fps=40))
    world.agent("slow", StubDevice(fps=15))
    await world.alive(2)
    await world.deploy(light())
    await until_told(world)
    return sorted(parts, key=lambda part: -part.service.lease.led)


async def test_a_device_that_is_killed_and_comes_back(world: System) -> None:
    await serving(world)
    agent = world.parts[FAST]
    await agent.kill()
    lost, plan, active = await until_told(world, "device-lost", "plan", "plan-active")
    assert lost.sentence == f"device {FAST} is lost (no heartbeat for 1.5 s)"
    assert plan.sentence == (
        f"plan 2 of grey: light moves from {FAST} to {SLOW}; 40.0 → 15.0 FPS predicted "
        f"(device {FAST} sent no heartbeat for 1.5 s)"
    )
    assert (plan.group, plan.epoch, plan.devices, plan.fps_before, plan.fps) == ("grey", 2, (FAST, SLOW), 40.0, 15.0)
    assert active.sentence == "plan 2 of grey is active"
    assert lost.at <= plan.at <= active.at
    agent.start()
    moved = ("device-lost", "plan", "plan-active")
    _, _, _, back, again, _ = await until_told(world, *moved, "device-back", *moved[1:])
    assert back.sentence == f"device {FAST} is back (its agent was started again)"
    assert "15.0 → 40.0 FPS" in again.text


async def test_who_asks_gets_what_concerns_a_group_or_device_or_kind(world: System) -> None:
    await serving(world)
    assert [one.kind for one in await told(world, group="grey")] == START[3:]
    assert [one.kind for one in await told(world, device=FAST)] == ["device-here", "plan"]
    assert [one.device for one in await told(world, kinds=("device-here",))] == [FAST, SLOW]
    first, *rest = await told(world)
    after = [one async for one in world.hams.history(after=first.sequence, follow=False)]
    assert after == rest


async def test_new_entries_are_followed(world: System) -> None:
    await serving(world)
    async with aclosing(world.hams.history()) as entries:
        coming = asyncio.create_task(anext(entries))
        await world.later(0.5)
        await world.parts[SLOW].stop()
        async with asyncio.timeout(60):
            assert (await coming).sentence == f"device {SLOW} is lost (it was stopped)"


async def test_a_scheduler_that_is_killed_and_starts_again_tells_nothing_twice(world: System) -> None:
    [scheduler] = await serving(world)
    for restarts in range(1, 4):
        await scheduler.kill()
        scheduler.start()
        await world.view()
        await world.later(5.0)
        found = await until_told(world, *["leader"] * restarts)
        assert len({entry.text for entry in found}) == restarts


async def test_what_happens_while_no_scheduler_runs_is_told_by_the_next(world: System) -> None:
    [scheduler] = await serving(world)
    await scheduler.kill()
    await world.parts[FAST].kill()
    await world.later(3.0)
    scheduler.start()
    _, lost, plan, _ = await until_told(world, "leader", "device-lost", "plan", "plan-active")
    assert lost.device == FAST
    assert plan.epoch == 2


async def test_a_change_of_the_leader_tells_nothing_twice(world: System) -> None:
    first, second = await serving(world, "one", "two")
    await first.kill()
    await world.parts[FAST].kill()
    leader, lost, _, _ = await until_told(world, "leader", "device-lost", "plan", "plan-active")
    assert second.service.lease.me in leader.text
    assert lost.device == FAST


async def test_what_happens_while_the_broker_is_away_is_told_once(world: System) -> None:
    await serving(world)
    world.server.stop()
    await world.later(1.0)
    await world.parts[SLOW].kill()
    await world.later(5.0)
    world.server.start()  # the scheduler has stepped down meanwhile, and reads the journal anew

    async def lost() -> bool:
        return "device-lost" in await kinds(world)

    await world.until(lost)
    found = await kinds(world)
    assert [found.count(kind) for kind in ("device-here", "group-deployed", "plan", "device-lost")] == [2, 1, 1, 1]
