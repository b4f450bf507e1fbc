"""Work of several frames that is run together: how long it may wait for that, and how much at once."""

from __future__ import annotations

from typing import Any

import pytest

from hams_agents.runtime.fair_queue import MAX_IMAGES
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light

DEVICE = "box.stub.sim"
FPS = 200.0
"""Of each network; a frame has two crops, so one takes 15 ms."""


async def serving(world: System, max_wait_ms: float, *, batches: bool = True, **more: Any) -> Listener:
    """A detector and a node on its crops that may wait."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=FPS, batches=batches))
    group = boxes_and_light(**more)
    group["nodes"]["light"]["max_wait_ms"] = max_wait_ms
    await world.deploy(group)
    results = await world.listen()
    world.devices[DEVICE].runs.clear()
    return results


def crops(world: System) -> list[int]:
    """How many crops each inference had."""
    return world.devices[DEVICE].runs.get("brightness", [])


def waits(results: Listener) -> list[float]:
    """How old each frame was when its result came, ms; the first has no objects."""
    return [r.data["latency_ms"] for r in results.received[1:]]


async def test_crops_wait_for_those_of_further_frames_as_long_as_they_may(world: System) -> None:
    results = await serving(world, 250)
    world.play(fps=10, count=31)
    await world.until(lambda: len(results.received) == 31)
    assert set(crops(world)[1:-1]) == {6}  # three frames come within 250 ms, and the very first has no crops
    assert max(waits(results)) == pytest.approx(250 + 1e3 * 7 / FPS, abs=20)
    results.check()


async def test_a_full_batch_waits_no_longer(world: System) -> None:
    results = await serving(world, 1000)
    world.play(fps=40, count=41)
    await world.until(lambda: len(results.received) == 41)
    assert set(crops(world)) == {MAX_IMAGES}
    assert max(waits(results)) < 250
    results.check()


async def test_without_leave_to_wait_crops_of_one_frame_are_run_as_they_come(world: System) -> None:
    results = await serving(world, 0)
    world.play(fps=10, count=21)
    await world.until(lambda: len(results.received) == 21)
    assert set(crops(world)) == {2}
    assert max(waits(results)) == pytest.approx(1e3 * 3 / FPS, abs=5)


async def test_a_network_that_takes_one_image_at_a_time_is_not_waited_for(world: System) -> None:
    results = await serving(world, 250, batches=False)
    world.play(fps=10, count=11)
    await world.until(lambda: len(results.received) == 11)
    assert max(waits(results)) == pytest.approx(1e3 * 3 / FPS, abs=5)


async def test_what_waits_holds_up_no_other_group(world: System) -> None:
    results = await serving(world, 900)
    await world.deploy(boxes_and_light(name="other"))
    other = await world.listen("other")
    world.play(fps=1, count=6)
    world.play("other", fps=10, count=31)
    await world.until(lambda: len(other.received) == 31)
    await world.until(lambda: len(results.received) == 6)
    assert max(waits(other)) <= 1e3 * 6 / FPS + 5
    assert min(waits(results)) > 900
