"""An inference that never returns, or that fails each time: found, counted, the work moved, the device let back in."""

from __future__ import annotations

from hams_shared.wire.messages.agents import HANGS
from support.world.stub import StubDevice
from support.world.system import System, light


async def test_a_hung_device_is_replaced_and_no_frame_is_lost(world: System) -> None:
    world.scheduler()
    world.pipeline()
    ill = world.agent("ill", StubDevice(fps=100))
    world.agent("sound", StubDevice(fps=20))
    ill.restarts = True
    await world.deploy(light())
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 20)
    assert results.devices[-1] == ill.name
    world.devices[ill.name].hangs = True
    await world.until(lambda: results.devices[-1] == "box.stub.sound")
    assert ill.lives == 2
    world.backends[ill.name].release()
    await world.until(lambda: _alive(world, 2))
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 20)
    results.check()


async def _alive(world: System, count: int) -> bool:
    return sum(state == "alive" for state in (await world.states()).values()) == count


async def test_a_device_that_hangs_again_and_again_is_quarantined_until_it_is_resumed(world: System) -> None:
    world.scheduler()
    world.pipeline()
    ill = world.agent("ill", StubDevice(fps=20))
    ill.restarts = True
    await world.deploy(light())
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 20)
    world.devices[ill.name].hangs = True

    async def quarantined() -> bool:
        return await world.states() == {ill.name: "quarantined"}

    await world.until(quarantined, within=600, every=1.0)
    assert ill.lives == HANGS + 1
    assert "quarantined" in (await world.group()).text
    world.backends[ill.name].release()
    seen = len(results.received)
    await world.later(30)
    assert len(results.received) == seen  # it gets no work, sound as it is, until somebody says so
    assert "does not end" in await world.control.resume(ill.name)
    await world.until(lambda: len(results.received) >= seen + 20)
    results.check()


async def test_a_load_that_hangs_is_found_too(world: System) -> None:
    world.scheduler()
    world.pipeline()
    ill = world.agent("ill", StubDevice(fps=100))
    world.agent("sound", StubDevice(fps=20))
    await world.until(lambda: _alive(world, 2))
    world.devices[ill.name].load_s = 1e5
    await world.deploy(light(), within=1000)
    results = await world.listen()
    world.play(count=10)
    await world.until(lambda: len(results.received) == 10)
    assert set(results.devices) == {"box.stub.sound"}
    assert not ill.runs


async def test_a_much_slower_network_is_not_held_to_the_time_of_the_one_before(world: System) -> None:
    """It takes 7 s, and the old one 10 ms: no hang until it was measured while it serves."""
    world.scheduler()
    world.pipeline()
    agent = world.agent("sim", StubDevice(fps={"brightness": 100, "brightness +1": 0.15}))
    agent.restarts = True
    await world.deploy(light(deadline_s=60.0))
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 100)
    await world.deploy(light(deadline_s=60.0, node={"model": "brightness +1"}), within=600)
    plan = (await world.group()).active
    assert plan is not None
    await world.until(lambda: [r.data["epoch"] for r in results.received].count(plan.epoch) >= 3, within=600)
    assert agent.lives == 1
    assert not (await world.view()).devices[0].health
    results.check()
