"""Deploying what runs already, at once with someone else, and again as it was before, on a whole system."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hams_services.ctl.actions.deploy import After, Done, Wanted, carry_out
from hams_shared.bus.audit import stored
from hams_shared.bus.control import Control
from hams_shared.errors import ConflictError, HamsError, NotFoundError
from support.world.stub import StubDevice
from support.world.system import System, light

WAIT = After(wait=True, timeout=60, json=False)


async def wanted(world: System, spec: dict[str, Any]) -> Wanted:
    """A group as `hams-ctl deploy` makes it from its file."""
    base = await world.control.running(spec["name"])
    record, files = world.record(spec)
    await world.control.upload(files, lambda *_: None)
    return Wanted(record, base)


async def deploy(world: System, one: Wanted, by: str = "al@box") -> Done:
    [done] = await carry_out(Control(world.bus, by), [one], WAIT, lambda *_: None)
    return done


async def test_a_group_that_runs_already_is_left_alone(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    first = await deploy(world, await wanted(world, light()))
    assert (first.same, first.runs.version, first.runs.by) == (False, 1, "al@box")
    epoch = (await world.group()).active.epoch  # type: ignore[union-attr]
    again = await deploy(world, await wanted(world, light()))
    assert (again.same, again.runs) == (True, first.runs)
    assert (await world.group()).active.epoch == epoch  # type: ignore[union-attr]
    other = await deploy(world, await wanted(world, light(priority=2)))
    assert (other.same, other.runs.version) == (False, 2)
    assert other.view is not None
    assert other.view.active is not None
    assert other.view.active.epoch > epoch
    assert other.view.active.group == other.runs


async def test_a_group_with_an_error_is_tried_again(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    bad = light(node={"pin": ["nowhere"]})
    record = await world.control.deploy((await wanted(world, bad)).record)

    async def refused() -> bool:
        return (await world.group()).error is not None

    await world.until(refused, 30)
    one = await wanted(world, bad)
    again = await world.control.deploy_changes(one.record, one.base)
    assert (record.version, again.version) == (1, 2)


async def test_of_two_deployers_at_once_one_wins_and_the_other_is_told(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    await deploy(world, await wanted(world, light()))
    both = [await wanted(world, light(priority=number)) for number in (1, 2)]
    tries = (deploy(world, one, f"p{number}@box") for number, one in enumerate(both, 1))
    done = await asyncio.gather(*tries, return_exceptions=True)
    [won] = [one for one in done if isinstance(one, Done)]
    [lost] = [one for one in done if isinstance(one, ConflictError)]
    assert f"group grey was changed by {won.runs.by} at " in lost.text
    assert "version 2 runs now" in lost.text
    assert (await world.control.running("grey")).record == won.runs


async def test_the_groups_of_a_file_that_are_changed_before_one_that_is_not_are_named(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    await deploy(world, await wanted(world, light(name="same")))
    await deploy(world, await wanted(world, light(name="b")))
    several = [await wanted(world, one) for one in (light(name="same"), light(name="a"), light(name="b", priority=1))]
    await deploy(world, await wanted(world, light(name="b", priority=2)), "eve@box")
    with pytest.raises(ConflictError) as caught:
        await carry_out(world.control, several, WAIT, lambda *_: None)
    assert "group b was changed by eve@box at" in caught.value.text
    assert caught.value.text.endswith("your change of it was not made; changed before it: a")
    assert "hams-ctl versions b" in caught.value.hint
    with pytest.raises(ConflictError) as alone:
        await carry_out(world.control, several[2:], WAIT, lambda *_: None)
    assert alone.value.text.endswith("your change of it was not made")


@pytest.mark.parametrize(
    ("then", "kind", "text"),
    [
        ("change", ConflictError, "group grey: version 2 by eve@box took the place of yours"),
        ("undeploy", NotFoundError, "group grey was undeployed meanwhile"),
    ],
)
async def test_a_change_by_someone_else_ends_the_wait(
    world: System, then: str, kind: type[HamsError], text: str
) -> None:
    world.scheduler()
    world.pipeline()  # there is no device, so that it does not serve
    waiting = asyncio.create_task(deploy(world, await wanted(world, light())))
    await world.until(lambda: world.group())
    await world.later(10)
    assert not waiting.done()
    began, eve = world.clock.now(), Control(world.bus, "eve@box")
    if then == "change":
        other = await wanted(world, light(priority=2))
        await eve.deploy(other.record, other.base)
    else:
        await eve.undeploy("grey")
    with pytest.raises(kind) as caught:
        await waiting
    assert world.clock.now() - began < 5
    assert caught.value.text == text
    assert "hams-ctl versions grey" in caught.value.hint


async def test_an_earlier_version_serves_again_and_the_audit_has_it_all(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    for priority in (1, 2):
        await deploy(world, await wanted(world, light(priority=priority)))
    control = Control(world.bus, "eve@box")
    again = await control.rollback(await control.running("grey"))
    async with asyncio.timeout(60):
        views = [view async for view in control.follow(again)]
    served = views[-1].active
    assert served is not None
    assert (served.group.version, served.group.spec.priority) == (3, 1)
    told = [(one.what, one.entry.actor, one.entry.text) async for one in stored(world.bus, 3600)]
    assert told[1:] == [
        ("deploy", "al@box", "version 2: priority: 1 → 2"),
        ("rollback", "eve@box", "version 3: priority: 2 → 1"),
    ]
