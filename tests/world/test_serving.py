"""A group from deployment to results."""

from __future__ import annotations

import pytest

from support.world.system import STEP, System, boxes_and_light, light, values


async def test_frames_that_are_pushed_come_back_as_results(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    await world.deploy(light())
    results = await world.listen()
    world.play(count=30)
    await world.until(lambda: len(results.received) == 30)
    results.check()
    assert values(results.received) == pytest.approx([n * STEP for n in range(30)], abs=0.5)


async def test_a_child_gets_the_crops_its_parent_found(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("a")
    world.agent("b")
    await world.deploy(boxes_and_light(strategy="round-robin"))
    results = await world.listen()
    world.play(count=10)
    await world.until(lambda: len(results.received) == 10)
    results.check()
    assert [len(r.objects) for r in results.received] == [0] + [2] * 9
    last = results.received[-1]
    assert [o["light"]["value"] for o in last.objects] == pytest.approx([9 * STEP] * 2, abs=0.5)
    assert len({last.nodes[node]["device"] for node in ("find", "light")}) == 2
