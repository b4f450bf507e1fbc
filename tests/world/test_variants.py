"""Variants of a network that serves: the fastest above the floor takes over, and the source comes back when it must."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from hams_shared.bus.variant_registry import variant_key
from hams_shared.wire import subjects
from hams_shared.wire.messages.group import GroupRecord
from support.world.stub import StubDevice
from support.world.system import STEP, Listener, System, light, values

SOURCE, GOOD, ROUGH = "brightness", "brightness +300", "brightness +600"
"""What each adds to the brightness tells which of them a result is from."""
SPEED = {SOURCE: 5.0, GOOD: 15.0, ROUGH: 30.0, "boxes +1": 50.0}


def served(results: Listener) -> list[str]:
    """Which network each result is from."""
    return [(SOURCE, GOOD, ROUGH)[int(value) // 300] for value in values(results.received)]


def in_turn(results: Listener) -> list[str]:
    """Which networks served, one after another."""
    return [name for name, _ in groupby(served(results))]


async def serving(
    world: System, *, fps: float = 0.0, group: dict[str, Any] | None = None
) -> tuple[GroupRecord, Listener]:
    """A group that is fed; at most 3 frames/s leave its device quiet."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=SPEED))
    record = await world.deploy(group or light())
    results = await world.listen()
    world.play(fps=fps)
    await world.until(lambda: len(results.received) >= 5)
    return record, results


async def now(world: System, results: Listener, name: str, within: float = 60) -> None:
    """Wait until a network serves."""
    await world.until(lambda: served(results)[-1] == name, within, what=f"{name} to serve", every=0.1)


async def test_the_fastest_variant_above_the_floor_takes_over_while_the_group_serves(world: System) -> None:
    record, results = await serving(world, fps=2)
    await world.add_variant(record, GOOD, 0.99)
    await world.add_variant(record, ROUGH, 0.90, precision="fp16")
    await now(world, results, GOOD)
    await world.later(20)
    assert in_turn(results) == [SOURCE, GOOD]
    assert all(
        value % 300 == r.frame % 60 * STEP for r, value in zip(results.received, values(results.received), strict=True)
    )
    results.check()
    [row] = [row for row in (await world.view()).matrix.variants if row.label == "onnx fp16"]
    assert row.excluded == "onnx fp16 agrees to 0.9000, 0.0800 below the floor of 0.98"
    assert row.fps == (None,)  # nor is it measured
    active = (await world.group()).active
    assert active is not None
    choice = active.variants["light"]["box.stub.sim"]
    assert (choice.label, choice.agreement) == ("int8", 0.99)
    assert (choice.fps, choice.source_fps) == pytest.approx((15, 5))

    await world.deploy(light(node={"min_agreement": 0.85}))
    await now(world, results, ROUGH)
    assert in_turn(results) == [SOURCE, GOOD, ROUGH]


async def test_a_plan_request_reports_the_gain_of_variants(world: System) -> None:
    record, _ = await serving(world, fps=2)
    await world.add_variant(record, GOOD, 0.99)
    [answer] = (await world.control.plan([record], ("mfs",), 1.0)).answers
    assert (answer.fps, answer.source_fps) == pytest.approx((15, 5))
    assert "int8 (agreement 0.990): 15 instead of 5 FPS" in answer.explanation["light"]


async def test_on_a_busy_device_variants_are_measured_late_and_all_the_same(world: System) -> None:
    record, results = await serving(world)
    await world.later(5)  # until it is known to be busy
    added = world.clock.now()
    await world.add_variant(record, GOOD, 0.99)
    await now(world, results, GOOD, within=90)
    assert world.clock.now() - added >= 30
    results.check()


async def test_a_group_begins_with_its_best_variant(world: System) -> None:
    record, files = world.record(light())
    await world.control.upload(files, lambda *_: None)
    await world.add_variant(record, GOOD, 0.99)
    _, results = await serving(world)
    assert in_turn(results) == [GOOD]


async def test_a_variant_serves_on_the_devices_that_run_it(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("both", StubDevice(fps=SPEED))
    world.agent("source", StubDevice(fps={SOURCE: 10.0}))
    await world.alive(2)
    record, files = world.record(light(strategy="replicated"))
    await world.control.upload(files, lambda *_: None)
    await world.add_variant(record, GOOD, 0.99)
    await world.deploy(light(strategy="replicated"))
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 50)
    results.check(one_owner=False)
    assert set(zip(results.devices, served(results), strict=True)) == {
        ("box.stub.both", GOOD),
        ("box.stub.source", SOURCE),
    }


async def test_a_variant_that_the_agent_cannot_use_is_banned_and_the_source_serves(
    world: System, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs, so it is measured; what it says is not what the node's task reads."""
    group = light(node={"task": {"type": "regression", "output": "y"}})
    record, results = await serving(world, fps=2, group=group)
    await world.add_variant(record, "boxes +1", 0.99)
    await world.until(lambda: _banned(world), every=0.5)
    before = await world.group()
    await world.later(30)
    after = await world.group()
    assert (after.state, after.next, after.active) == ("serving", None, before.active)  # it is not tried again
    assert "is over" not in caplog.text  # that a plan was taken back is no news from an earlier leader
    assert in_turn(results) == [SOURCE]
    results.check()


async def _banned(world: System) -> bool:
    rows = (await world.view()).matrix.variants
    return any("the agent does not run it" in why for row in rows for why in row.reasons.values())


async def test_a_variant_judged_anew_below_the_floor_is_left_at_once(world: System) -> None:
    record, results = await serving(world, fps=2)
    await world.add_variant(record, GOOD, 0.99)
    await now(world, results, GOOD)
    await world.add_variant(record, GOOD, 0.97)
    await now(world, results, SOURCE, within=5)
    assert in_turn(results) == [SOURCE, GOOD, SOURCE]
    results.check()


async def test_a_variant_that_is_taken_out_of_the_store_is_left_at_once(world: System) -> None:
    record, results = await serving(world, fps=2)
    variant = await world.add_variant(record, GOOD, 0.99)
    await now(world, results, GOOD)
    bucket = await world.bus.kv(subjects.bucket("variants"))
    await bucket.delete(variant_key(record.models["light"].digest, variant.model.digest))
    await now(world, results, SOURCE, within=5)
    results.check()
