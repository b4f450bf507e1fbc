"""Parts are replaced while a stream plays, as docs/operations.md says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from support.world.stub import StubDevice
from support.world.system import Listener, System, light

LOAD_S = 5.0
"""How long a device takes to load the network: long enough to see who serves meanwhile."""


def slow_to_load() -> StubDevice:
    """The same kind of device on every host."""
    return StubDevice(fps=20, load_s=LOAD_S)


async def serving(world: System, mode: str = "lossless", *hosts: str, device: StubDevice | None = None) -> Listener:
    """A scheduler, a pipeline, an agent per host, and a group that is fed."""
    world.scheduler("scheduler-old")
    world.pipeline("pipeline-old")
    for host in hosts or ("box1",):
        world.agent("sim", device or slow_to_load(), host=host)
    await world.until(lambda: _alive(world, len(hosts) or 1))
    await world.deploy(light({"mode": mode}))
    results = await world.listen()
    world.play(fps=20 if mode == "live" else 0)
    await world.until(lambda: len(results.received) >= 10)
    return results


async def _alive(world: System, count: int) -> bool:
    return sum(state == "alive" for state in (await world.states()).values()) == count


async def more(world: System, results: Listener, count: int = 20) -> None:
    """Wait for more results."""
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + count)


async def test_a_new_agent_joins_and_the_old_one_drains(world: System) -> None:
    results = await serving(world)
    world.agent("sim", slow_to_load(), host="box1b")
    await world.until(lambda: _alive(world, 2))
    await more(world, results)
    await world.parts["box1.stub.sim"].stop()
    await world.until(lambda: results.devices[-1] == "box1b.stub.sim")
    await more(world, results)
    assert await world.states() == {"box1b.stub.sim": "alive"}
    results.check()


async def test_a_live_stream_sees_no_pause_when_its_agent_is_stopped(world: System) -> None:
    results = await serving(world, "live", "box1", "box1b")
    seen = len(results.received)
    old = results.devices[-1]
    await world.parts[old].stop()
    await world.until(lambda: results.devices[-1] != old)
    await more(world, results)
    assert not (await world.stream()).failed
    times = [r.data["latency_ms"] for r in results.received]
    assert max(times) < LOAD_S * 1e3
    frames = results.frames[seen - 1 :]
    assert max(b - a for a, b in pairwise(frames)) < LOAD_S * 20  # the other had loaded before the old one left
    results.check(whole=False)


async def test_an_agent_that_nobody_can_replace_ends_soon_and_its_heir_serves(world: System) -> None:
    results = await serving(world, "lossless", "box1", device=StubDevice(fps=20))
    old = world.parts["box1.stub.sim"]
    began = world.clock.now()
    await old.stop()
    assert world.clock.now() - began < 10
    old.start()  # the new version, in its place
    await more(world, results)
    results.check()


async def test_a_new_scheduler_joins_and_the_old_one_leaves(world: System) -> None:
    results = await serving(world, "lossless", "box1", device=StubDevice(fps=20))
    before = await world.view()
    new = world.scheduler("scheduler-new")
    await world.later(2)
    await world.parts["scheduler-old"].stop()
    after = await world.until(lambda: world.view())
    assert after.leader.holder == new.service.lease.me
    assert after.leader.term > before.leader.term
    assert after.groups[0].active == before.groups[0].active  # nothing was lost or made anew
    await more(world, results)
    results.check()


async def test_a_pipeline_that_is_restarted_goes_on_under_the_same_plan(world: System) -> None:
    results = await serving(world, "lossless", "box1", device=StubDevice(fps=20))
    epoch = (await world.group()).active.epoch  # type: ignore[union-attr]
    await world.parts["pipeline-old"].stop()
    count = len(results.received)
    world.pipeline("pipeline-new")
    await world.until(lambda: len(results.received) >= count + 20)
    assert results.frames == list(range(len(results.frames)))  # the application goes on where it was
    assert {int(r.data["epoch"]) for r in results.received} == {epoch}


@pytest.mark.parametrize("name", ["box1.stub.sim", "scheduler-old", "pipeline-old"])
async def test_a_part_whose_broker_is_gone_ends_in_good_order(world: System, name: str) -> None:
    await serving(world, "lossless", "box1", device=StubDevice(fps=20))
    world.server.stop()
    await world.parts[name].stop()
    world.server.start()


async def test_agents_are_replaced_again_and_again_and_nothing_is_lost(world: System) -> None:
    results = await serving(world, "lossless", "box1", "box2", device=StubDevice(fps=20, load_s=0.5))
    for turn in range(6):
        part = world.parts[results.devices[-1]]
        await (part.kill() if turn % 2 else part.stop())
        part.start()
        await more(world, results, 40)
    results.check()
