"""A node that is shared over devices: who does which frame, and what becomes of those that a replica does not do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hams_shared.wire import subjects
from support.world.stub import StubDevice
from support.world.system import STEP, Listener, System, boxes_and_light, light

QUICK, SLOW = "box.stub.quick", "box.stub.slow"


async def shared(world: System, group: dict[str, Any] | None = None, fps: float = 0.0) -> Listener:
    """A group that is shared over a device of 40 frames/s and one of 20, and is fed, `fps` frames a second."""
    world.scheduler()
    world.pipeline()
    world.agent("quick", StubDevice(fps=40))
    world.agent("slow", StubDevice(fps=20))
    await world.alive(2)
    await world.deploy(group or light(strategy="replicated", in_flight=64))
    results = await world.listen()
    world.play(fps=fps)
    await world.until(lambda: len(results.received) >= 20)
    return results


async def done(world: System, results: Listener, seconds: float) -> Counter[str]:
    """Frames/s that each device did, in the order of results."""
    seen = len(results.received)
    await world.later(seconds)
    return Counter({device: count / seconds for device, count in Counter(results.devices[seen:]).items()})


async def test_frames_are_spread_by_speed_and_come_in_order(world: System) -> None:
    results = await shared(world)
    active = (await world.group()).active
    assert active is not None
    assert active.shares["light"] == pytest.approx({QUICK: 2 / 3, SLOW: 1 / 3}, abs=0.02)
    assert active.fps == pytest.approx(60, rel=0.02)
    assert await done(world, results, 2) == pytest.approx({QUICK: 40, SLOW: 20}, abs=2)
    results.check(one_owner=False)


async def test_children_on_replicas_see_their_own_frames(world: System) -> None:
    group = boxes_and_light(strategy="replicated")
    group["nodes"]["find"]["pin"] = [QUICK]
    results = await shared(world, group)
    active = (await world.group()).active
    assert active is not None
    assert {node for node, places in active.shares.items() if len(places) == 2} == {"light"}
    await world.until(lambda: len(results.received) >= 60)
    results.check(one_owner=False)
    assert set(results.devices) == {QUICK, SLOW}
    for one in results.received[1:60]:
        assert [o["light"]["value"] for o in one.objects] == pytest.approx([one.frame * STEP] * 2, abs=0.5)


async def test_a_replica_that_is_slower_than_planned_is_passed_over(world: System) -> None:
    results = await shared(world, fps=36)
    before = (await world.group()).active
    world.devices[SLOW].fps = 4
    await world.later(1)
    assert await done(world, results, 3) == pytest.approx({QUICK: 32, SLOW: 4}, abs=2)  # by shares alone: 8 and 4
    assert (await world.group()).active == before
    results.check(one_owner=False)


async def test_a_replica_that_stalls_is_passed_over_and_taken_again(world: System) -> None:
    results = await shared(world, fps=30)
    world.devices[SLOW].hangs = True
    await world.later(2)
    seen = len(results.received)
    world.backends[SLOW].release()
    await world.later(0.3)
    during = results.devices[seen : seen + 50]
    assert during.count(SLOW) <= 5  # by shares alone: 16
    await world.later(1)
    assert await done(world, results, 1) == pytest.approx({QUICK: 20, SLOW: 10}, abs=2)
    results.check(one_owner=False)


async def test_what_a_lost_replica_owes_is_done_by_the_other(world: System) -> None:
    results = await shared(world)
    await world.parts[SLOW].kill()
    await world.until(lambda: set(results.devices[-30:]) == {QUICK})
    assert (await world.stream()).resent > 0
    assert max(r.data["latency_ms"] for r in results.received) < 5000  # at once, not when its deadline of 10 s passes
    results.check(one_owner=False)


async def test_a_frame_that_a_replica_does_not_answer_goes_to_the_other(world: System) -> None:
    results = await shared(world, light(strategy="replicated", in_flight=16, deadline_s=1))
    seen = len(results.received)
    world.server.loses = lambda subject: subject == subjects.work(SLOW)
    await world.until(lambda: set(results.devices[-30:]) == {QUICK})
    assert (await world.stream()).resent > 0
    assert max(r.data["latency_ms"] for r in results.received[seen:]) < 2000  # nothing was lost a second time
    results.check(one_owner=False)
