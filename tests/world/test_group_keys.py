"""Keys of a group file that decide how it is placed: `strategy`, `weight`."""

from __future__ import annotations

import pytest

from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light, light


async def test_groups_are_placed_together_by_the_most_important_ones_strategy(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("a", StubDevice(fps=20, kind="cpu"))
    world.agent("b", StubDevice(fps=30))
    await world.alive(2)
    await world.deploy(light(name="first", strategy="default"))
    active = (await world.group("first")).active
    assert active is not None
    assert (active.strategy, active.shares) == ("default", {"light": {"box.stub.a": 1.0}})
    await world.deploy(light(name="second", strategy="fastest", priority=1))
    active = (await world.group("second")).active
    assert active is not None
    assert (active.strategy, active.shares) == ("fastest", {"light": {"box.stub.b": 1.0}})
    await world.deploy(light(name="third", strategy="default"))
    active = (await world.group("third")).active
    assert active is not None
    assert active.strategy == "fastest"


@pytest.mark.parametrize("weight", [1, 4])
async def test_a_weight_counts_until_it_is_measured(world: System, weight: float) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("a", StubDevice(fps=100))
    record = await world.deploy(boxes_and_light(node={"weight": weight}))
    group = await world.group(record.spec.name)
    assert group.weights["light"] == weight
    assert group.active is not None
    assert group.active.fps == pytest.approx(100 / (1 + weight), rel=0.01)
