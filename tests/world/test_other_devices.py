"""What was deployed finds other devices: it is measured on them and serves, and nothing false is said meanwhile."""

from __future__ import annotations

import pytest

from hams_shared.wire.messages.scheduler import GroupView
from support.world.stub import StubDevice
from support.world.system import System, light

NEW = {"box.stub.new", "box.stub.newer"}


async def served_by_the_new(world: System, name: str = "grey") -> list[GroupView]:
    """Wait until the new devices serve; all that was told of the group until then."""
    told: list[GroupView] = []

    async def serves() -> bool:
        view = await world.group(name)
        told.append(view)
        return view.state == "serving" and view.active is not None and view.active.devices <= NEW

    await world.until(serves, every=0.1)
    return told


def check(told: list[GroupView]) -> None:
    """It was measured, it never failed, and nothing was said to load on what is gone."""
    assert "profiling" in [view.state for view in told]
    for view in told:
        assert view.state != "failed", view.text
        if view.state == "loading":
            plan = view.next or view.active
            assert plan is not None
            assert plan.devices <= NEW


def new_devices(world: System, load_s: float = 0.5) -> None:
    for unit, fps in (("new", 30), ("newer", 60)):
        world.agent(unit, StubDevice(fps=fps, load_s=load_s))


@pytest.mark.parametrize("restart", [True, False])
async def test_a_group_deployed_again_is_measured_on_devices_that_are_new(world: System, restart: bool) -> None:
    scheduler = world.scheduler()
    world.pipeline()
    old = world.agent("old")
    await world.deploy(light())
    await old.stop()
    if restart:
        await scheduler.stop()
        scheduler.start()
    new_devices(world)
    await world.alive(2)
    await world.deploy(light())  # follows it as hams-ctl deploy does, and raises what the scheduler finds wrong
    active = (await world.group()).active
    assert active is not None
    assert active.devices <= NEW


async def test_a_group_that_is_there_is_measured_on_devices_that_are_new(world: System) -> None:
    scheduler = world.scheduler()
    world.pipeline()
    old = world.agent("old")
    await world.deploy(light())
    await old.stop()
    await scheduler.stop()
    scheduler.start()
    new_devices(world)
    check(await served_by_the_new(world))
    await world.until(lambda: _on(world, "box.stub.newer"))  # the faster one, once both are measured


async def _on(world: System, device: str) -> bool:
    active = (await world.group()).active
    return active is not None and active.devices == {device}


async def test_a_group_deployed_while_another_has_lost_its_device_does_not_fail(world: System) -> None:
    world.scheduler()
    world.pipeline()
    old = world.agent("old")
    world.agent("new", StubDevice(fps=20, load_s=0.5))
    await world.deploy(light())
    await old.kill()
    await world.later(2)
    await world.deploy(light(name="other", node={"model": "brightness +8"}))  # not measured anywhere yet
    assert (await world.group("other")).error is None
