"""Several schedulers: one leads; whatever becomes of it, another does, and plans are neither lost nor doubled."""

from __future__ import annotations

import asyncio

from hams_scheduler.leader.lease import LEASE_S
from hams_scheduler.service import SchedulerService
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import LeaderRecord, PlanAnswer
from support.world.parts import Part
from support.world.stub import StubDevice
from support.world.system import Listener, System, light


async def leader(world: System) -> LeaderRecord:
    """Who leads."""
    found = (await world.view()).leader
    assert found is not None
    return found


async def leading(world: System) -> tuple[Part[SchedulerService], Part[SchedulerService]]:
    """Of the two schedulers, the one that leads and the other."""
    holder = (await leader(world)).holder
    first, second = world.parts["one"], world.parts["two"]
    return (first, second) if first.service.lease.me == holder else (second, first)


async def plan(world: System) -> Plan:
    """The plan in force."""
    active = (await world.group()).active
    assert active is not None
    return active


async def serving(world: System) -> Listener:
    """Two schedulers, a pipeline, a device, and a group that is fed."""
    world.scheduler("one")
    world.scheduler("two")
    world.pipeline()
    world.agent("sim", StubDevice(fps=20))
    await world.deploy(light())
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 10)
    return results


async def test_the_leader_is_killed_and_the_other_leads(world: System) -> None:
    results = await serving(world)
    (first, _), before, term = await leading(world), await plan(world), (await leader(world)).term
    await first.kill()
    killed, seen = world.clock.now(), len(results.received)
    second = await leader(world)
    assert world.clock.now() - killed < LEASE_S + 2.0
    assert second.term > term
    await world.until(lambda: len(results.received) >= seen + 20)  # serving went on
    assert await plan(world) == before  # nothing was lost, and nothing was made anew
    results.check()


async def test_a_leader_that_is_stopped_gives_the_lease_back(world: System) -> None:
    await serving(world)
    (first, other), term = await leading(world), (await leader(world)).term
    await first.stop()
    stopped = world.clock.now()
    second = await leader(world)
    assert (second.holder, second.term) == (other.service.lease.me, term + 1)
    assert world.clock.now() - stopped < LEASE_S / 2  # it did not have to run out


async def test_a_leader_that_was_cut_off_finds_itself_deposed(world: System) -> None:
    results = await serving(world)
    (first, other), before = await leading(world), await plan(world)
    first.bus.cut()
    await world.until(lambda: other.service.lease.led, within=10)
    assert not first.service.lease.led
    await world.deploy(light(priority=2))  # a new plan, made by the other
    after = await plan(world)
    assert after.epoch > before.epoch
    first.bus.heal()
    await world.later(5)
    assert (await leader(world)).holder == other.service.lease.me
    assert await plan(world) == after
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 10)


async def test_without_any_scheduler_serving_goes_on(world: System) -> None:
    results = await serving(world)
    before = await plan(world)
    for name in ("one", "two"):
        await world.parts[name].kill()
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 100)
    for name in ("one", "two"):
        world.parts[name].start()
    assert await plan(world) == before
    results.check()


async def test_a_device_lost_while_nobody_leads_is_replaced_by_the_next_leader(world: System) -> None:
    results = await serving(world)
    world.agent("spare")
    await world.until(lambda: _alive(world, 2))
    lost = world.parts[results.devices[-1]]
    for name in ("one", "two"):
        await world.parts[name].kill()
    await lost.kill()
    await world.later(3)
    world.parts["one"].start()
    await world.until(lambda: results.devices[-1] != lost.name)
    results.check()


async def _alive(world: System, count: int) -> bool:
    return sum(state == "alive" for state in (await world.states()).values()) == count


async def test_schedulers_that_come_and_go_never_double_a_plan(world: System) -> None:
    """Ten changes of the leader, by every way there is, while groups come and go."""
    results = await serving(world)
    epochs: list[int] = []
    for turn in range(10):
        first, _ = await leading(world)
        match turn % 3:
            case 0:
                await first.kill()
            case 1:
                await first.stop()
            case _:
                first.bus.cut()
                await asyncio.sleep(LEASE_S + 1)
                first.bus.heal()
        if not first.runs:
            first.start()
        await world.deploy(light(priority=turn))
        epochs.append((await plan(world)).epoch)
    assert epochs == sorted(set(epochs))
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 10)


# ── questions about plans, which wait for benchmarks ──────────────────────────────────────────────────────────────────


async def asked(world: System, *schedulers: str) -> asyncio.Task[PlanAnswer]:
    """A question that waits for a slow benchmark."""
    for name in schedulers:
        world.scheduler(name)
    world.agent("sim", StubDevice(load_s=15))
    record, files = world.record(light())
    await world.control.upload(files, lambda *_: None)
    await world.alive(1)
    asking = asyncio.create_task(world.control.plan([record], ("mfs",), 1.0))

    async def measures() -> bool:
        return bool((await world.view()).profiling)

    await world.until(measures)
    assert not asking.done()
    return asking


async def answered(asking: asyncio.Task[PlanAnswer]) -> None:
    """The question gets a plan."""
    async with asyncio.timeout(120):
        [answer] = (await asking).answers
    assert answer.fps > 0


async def test_a_lone_scheduler_that_was_starved_keeps_its_lease_and_what_waits(world: System) -> None:
    asking = await asked(world, "one")
    before = await leader(world)
    world.clock.advance(world.clock.now() + 2 * LEASE_S)  # nobody had the cores
    assert not world.parts["one"].service.lease.leads(world.clock.now())
    await answered(asking)
    assert await leader(world) == before


async def test_a_lone_scheduler_whose_lease_ran_out_answers_what_waits_when_it_leads_again(world: System) -> None:
    asking = await asked(world, "one")
    term = (await leader(world)).term
    world.parts["one"].bus.cut()
    await world.later(2 * LEASE_S)
    world.parts["one"].bus.heal()
    await world.until(lambda: world.parts["one"].service.lease.led > term)
    assert not asking.done()
    await answered(asking)


async def test_who_asked_a_leader_that_is_deposed_asks_its_heir(world: System) -> None:
    asking = await asked(world, "one", "two")
    first, other = await leading(world)
    first.bus.cut()
    await world.until(lambda: other.service.lease.led, within=10)
    first.bus.heal()
    await answered(asking)


async def test_who_asked_a_leader_that_is_killed_asks_its_heir(world: System) -> None:
    asking = await asked(world, "one", "two")
    first, _ = await leading(world)
    await first.kill()
    await answered(asking)


async def test_who_asked_a_lone_scheduler_that_is_started_anew_asks_again(world: System) -> None:
    asking = await asked(world, "one")
    await world.parts["one"].kill()
    await world.later(1)
    world.parts["one"].start()
    await answered(asking)
