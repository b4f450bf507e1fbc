"""Slow children with a budget: streams go on at their own rate, and tracks carry the answers."""

from __future__ import annotations

from typing import Any

from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light

FRAMES = 400
FPS = 20.0
SLOW = {"cadence": {"seconds": 0.1}, "budget": 0.25}
SLOWNESS = {"boxes": 200.0, "brightness": 0.5}
"""Frames/s of the detector and of the slow child, which takes 2 s."""


def group(stream: dict[str, Any] | None = None) -> dict[str, Any]:
    found = boxes_and_light(stream or {"mode": "live"})
    found["nodes"]["find"]["track"] = {"confirm_hits": 1}
    found["nodes"]["light"] |= SLOW
    return found


def shown(results: Listener) -> list[list[Any]]:
    """By frame and object: the frame that its answer is of, or why there is none."""
    return [
        [one["light"]["from_frame"] if "light" in one else one["skipped"]["light"] for one in result.data["objects"]]
        for result in results.received
    ]


async def test_a_slow_child_holds_no_frame_back(world: System) -> None:
    device = StubDevice(fps=SLOWNESS)
    await world.box(one=device)
    await world.deploy(group())
    plan = (await world.group()).active
    assert plan is not None
    assert plan.fps > FPS  # not 0.5, as the slow child alone
    assert "in at most 25% of a device's time" in plan.explanation["light"]
    results = await world.listen()
    before = len(device.runs["brightness"])
    world.play(count=FRAMES, fps=FPS)
    await world.until(lambda: len(results.received) == FRAMES)
    assert max(result.data["latency_ms"] for result in results.received) < 100
    whys = {why for frame in shown(results) for why in frame}
    assert {"pending", "budget"} <= whys
    assert len([why for why in whys if isinstance(why, int)]) >= 2  # both objects were looked at
    answers = len(device.runs["brightness"]) - before
    assert 2 <= answers <= FRAMES / FPS / 8 + 1  # each takes 2 s, and rests for 6 s


async def test_a_lossless_stream_does_not_wait_for_it_either(world: System) -> None:
    await world.box(one=StubDevice(fps=SLOWNESS))
    await world.deploy(group({"mode": "lossless"}))
    results = await world.listen()
    world.play(count=FRAMES)
    await world.until(lambda: len(results.received) == FRAMES)
    assert (await world.stream()).fps > 50


async def test_the_answer_of_a_lost_device_is_asked_for_elsewhere(world: System) -> None:
    await world.box(one=StubDevice(fps=SLOWNESS), two=StubDevice(fps={**SLOWNESS, "brightness": 0.6}))
    await world.deploy(group())
    plan = (await world.group()).active
    assert plan is not None
    (at,) = plan.shares["light"]
    results = await world.listen()
    world.play(fps=FPS)
    await world.until(lambda: len(results.received) >= 20)
    await world.parts[at].kill()
    seen = len(results.received)
    await world.until(lambda: any(isinstance(why, int) for frame in shown(results)[seen:] for why in frame))


async def test_a_slow_child_that_hangs_is_found_and_the_frames_go_on(world: System) -> None:
    await world.box(one=StubDevice(fps=SLOWNESS), two=StubDevice(fps={"brightness": 5.0}))
    ill = world.parts["box.stub.two"]
    ill.restarts = True
    await world.deploy(group())
    plan = (await world.group()).active
    assert plan is not None
    assert list(plan.shares["light"]) == [ill.name]
    results = await world.listen()
    world.play(fps=FPS)
    await world.until(lambda: len(results.received) >= 20)
    world.devices[ill.name].hangs = True
    await world.until(lambda: ill.lives == 2, within=120)
    world.backends[ill.name].release()
    seen = len(results.received)
    await world.until(lambda: any(isinstance(why, int) for frame in shown(results)[seen + 40 :] for why in frame))
    numbers = [result.data["frame"] for result in results.received]
    assert len(numbers) > 0.9 * (numbers[-1] - numbers[0])  # few are lost, while the plan changes
