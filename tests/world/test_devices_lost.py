"""An agent that dies, is cut off, refuses, or sits behind a slow or lossy link: what becomes of frames and plans."""

from __future__ import annotations

import asyncio
import random

import pytest

from hams_scheduler.service import SchedulerService
from hams_shared.wire import subjects
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light, light

SILENCE_S = 1.5
"""After which a device counts as lost, as docs/reliability.md says."""
FAST, SLOW = "box.stub.fast", "box.stub.slow"


async def serving(world: System, mode: str = "lossless", fps: float = 0) -> Listener:
    """A fast device that serves and a slow one that may stand in; a group that is fed."""
    world.scheduler()
    world.pipeline()
    world.agent("fast", StubDevice(fps=40))
    world.agent("slow", StubDevice(fps=15))
    await world.until(lambda: states(world, "alive", "alive"))
    await world.deploy(light({"mode": mode}))
    results = await world.listen()
    world.play(fps=25 if mode == "live" else fps)
    await world.until(lambda: len(results.received) >= 20)
    assert results.devices[-1] == FAST
    return results


async def states(world: System, *wanted: str) -> bool:
    """Whether the devices, by name, are so."""
    return [state for _, state in sorted((await world.states()).items())] == list(wanted)


async def more(world: System, results: Listener, count: int = 20) -> None:
    """Wait for more results."""
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + count)


async def test_an_agent_that_is_back_at_once_keeps_its_nodes(world: System) -> None:
    results = await serving(world)
    before = (await world.group()).active
    agent = world.parts[FAST]
    agent.restarts = True
    await agent.kill()
    await more(world, results)
    assert (await world.group()).active == before
    assert set(results.devices) == {FAST}
    results.check()


async def test_an_agent_that_stays_away_is_replaced(world: System) -> None:
    results = await serving(world)
    before = (await world.group()).active
    assert before is not None
    await world.parts[FAST].kill()
    killed = world.clock.now()
    await world.until(lambda: results.devices[-1] == SLOW)
    assert world.clock.now() - killed < SILENCE_S + 1.0
    after = (await world.group()).active
    assert after is not None
    assert after.epoch > before.epoch
    assert await states(world, "lost", "alive")
    await more(world, results)
    results.check()


async def deployed(world: System, *schedulers: str) -> list[SchedulerService]:
    """A group on a fast device with a slow one beside it; the schedulers, the one that leads first."""
    parts = [world.scheduler(name) for name in schedulers]
    world.pipeline()
    world.agent("fast", StubDevice(fps=40))
    world.agent("slow", StubDevice(fps=15))
    await world.until(lambda: states(world, "alive", "alive"))
    await world.deploy(light())
    return sorted((part.service for part in parts), key=lambda service: -service.lease.led)


async def test_the_plan_for_a_loss_is_ready_before_it_happens(world: System) -> None:
    [scheduler] = await deployed(world, "scheduler")
    state = scheduler._state
    await world.until(lambda: FAST in state.kept.plans)
    kept = state.kept.plans[FAST].solution
    assert kept is not None
    await world.parts[FAST].kill()
    await world.until(lambda: state.kept.used == 1)
    await world.until(lambda: states(world, "lost", "alive"))
    async with asyncio.timeout(10):
        while (active := (await world.group()).active) is None or active.devices != {SLOW}:
            await world.later(0.1)
    assert (active.shares, active.made_at) == (kept.plans["grey"].shares, kept.plans["grey"].made_at)


async def test_a_new_leader_makes_its_own_plans_for_losses(world: System) -> None:
    leads, follows = await deployed(world, "one", "two")
    await world.until(lambda: FAST in leads._state.kept.plans)
    assert not follows._state.kept.plans
    await next(part for part in world.parts.values() if getattr(part, "service", None) is leads).kill()
    await world.until(lambda: FAST in follows._state.kept.plans, within=60)
    await world.parts[FAST].kill()
    await world.until(lambda: follows._state.kept.used == 1)


async def test_a_live_stream_drops_frames_of_the_lost_device_with_the_reason(world: System) -> None:
    results = await serving(world, "live")
    await world.parts[FAST].kill()
    await world.until(lambda: results.devices[-1] == SLOW)
    stream = await world.stream()
    assert stream.dropped["device-lost"] > 0
    assert not stream.failed
    results.check(whole=False)


async def test_a_link_that_is_cut_and_healed(world: System) -> None:
    results = await serving(world)
    link = world.parts[FAST].bus
    link.cut()
    await world.until(lambda: results.devices[-1] == SLOW)
    await more(world, results, 100)
    link.heal()
    await world.until(lambda: states(world, "alive", "alive"))
    await world.until(lambda: results.devices[-1] == FAST, within=300)  # it is worth moving back, after a while
    await more(world, results)
    results.check()


async def test_a_short_cut_changes_nothing(world: System) -> None:
    results = await serving(world)
    before = (await world.group()).active
    for _ in range(5):
        world.parts[FAST].bus.cut()
        await world.later(SILENCE_S / 2)
        world.parts[FAST].bus.heal()
        await more(world, results)
    assert (await world.group()).active == before
    results.check()


async def test_work_that_a_short_cut_lost_is_sent_again_at_once(world: System) -> None:
    results = await serving(world, fps=10)
    for _ in range(5):
        world.parts[FAST].bus.cut()
        await world.later(SILENCE_S / 2)
        world.parts[FAST].bus.heal()
        healed = world.clock.now()
        await more(world, results, 5)
        assert world.clock.now() - healed < 2.0  # a frame's deadline is later
    results.check()


@pytest.mark.parametrize("delay_s", [0.05, 0.4])
async def test_a_slow_link(world: System, delay_s: float) -> None:
    results = await serving(world)
    world.server.delay_s = delay_s
    await more(world, results, 60)
    assert await states(world, "alive", "alive")  # slow is not lost
    results.check()


async def test_frames_that_wait_for_slow_devices_are_not_sent_again(world: System) -> None:
    """Not so many are under way that each would wait for longer than its deadline."""
    world.scheduler()
    world.pipeline()
    world.agent("a", StubDevice(fps=6))
    await world.until(lambda: states(world, "alive"))
    await world.deploy(light(deadline_s=4.0))
    results = await world.listen()
    world.play(count=60)
    await world.until(lambda: len(results.received) == 60, within=60)
    stream = await world.stream()
    assert (stream.delivered, stream.resent) == (60, 0)


@pytest.mark.parametrize("seed", range(3))
async def test_messages_that_are_lost_are_sent_again(world: System, seed: int) -> None:
    """Core NATS may lose what is under way when a connection breaks; here one message of twenty, all the time."""
    world.scheduler()
    world.pipeline()
    world.agent("a", StubDevice(fps=40))
    world.agent("b", StubDevice(fps=40))
    await world.until(lambda: states(world, "alive", "alive"))
    await world.deploy(boxes_and_light(strategy="round-robin", deadline_s=1.0))
    results = await world.listen()
    chance = random.Random(seed)
    kinds = (subjects.work("*").split(".")[2], subjects.answer("*", "*").split(".")[2])
    world.server.loses = lambda subject: subject.split(".")[2] in kinds and chance.random() < 0.05
    world.play(count=100)
    await world.until(lambda: len(results.received) == 100, within=300)
    stream = await world.stream()
    assert stream.resent > 0
    assert (stream.delivered, stream.dropped, stream.failed) == (100, {}, {})
    results.check(one_owner=False)


async def test_an_agent_that_refuses_a_plan_is_passed_over(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("fast", StubDevice(fps=40))
    world.agent("slow", StubDevice(fps=15))
    await world.until(lambda: states(world, "alive", "alive"))
    record, files = world.record(light())
    await world.control.upload(files, lambda *_: None)
    await world.control.plan([record], ("mfs",), 5.0)  # measured on both, loaded on none
    world.devices[FAST].refuses = "out of memory"
    await world.deploy(light())
    results = await world.listen()
    world.play(count=10)
    await world.until(lambda: len(results.received) == 10)
    assert set(results.devices) == {SLOW}


async def test_every_device_is_lost_and_one_comes_back(world: System) -> None:
    results = await serving(world)
    for name in (FAST, SLOW):
        await world.parts[name].kill()
    await world.later(30)
    world.parts[SLOW].start()
    await more(world, results)
    assert results.devices[-1] == SLOW
    results.check()


@pytest.mark.parametrize("turns", range(5))
async def test_an_agent_ends_although_it_is_just_about_to_announce(world: System, turns: int) -> None:
    """`asyncio.wait_for` of Python 3.11 loses a cancellation that comes as what it waits for ends."""
    await world.box(sim=StubDevice())
    agent = world.parts["box.stub.sim"]
    agent.service._announce.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await agent.kill()
