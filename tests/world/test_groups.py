"""Several groups on the same devices, and devices that come: what is placed where, when it changes, and when not."""

from __future__ import annotations

from typing import Any

import pytest

from hams_shared.errors import InfeasibleError, NotFoundError
from hams_shared.wire import subjects
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import SurviveRequest
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light, light, values

MIN_DWELL_S = 15.0
"""How long a placement is left alone, as docs/scheduling.md says."""
A, B = "box.stub.a", "box.stub.b"


async def fed(world: System, group: dict[str, Any], fps: float = 0.0) -> Listener:
    """Deploy a group and feed it."""
    await world.deploy(group)
    results = await world.listen(group["name"])
    world.play(group["name"], fps=fps)
    await world.until(lambda: len(results.received) >= 5)
    return results


async def more(world: System, results: Listener, count: int = 10) -> None:
    """Wait for more results."""
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + count)


async def plan(world: System, group: str = "grey") -> Plan:
    """The plan in force."""
    active = (await world.group(group)).active
    assert active is not None
    return active


# ── groups that come and go ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_second_group_goes_where_there_is_room_and_both_serve(world: System) -> None:
    await world.box(a=StubDevice(fps=30), b=StubDevice(fps=20))
    first = await fed(world, light(name="first"))
    second = await fed(world, light(name="second"))
    await more(world, first)
    assert {first.devices[-1], second.devices[-1]} == {A, B}
    for results in (first, second):
        results.check()
    await world.later(8)  # what is measured is a mean over some seconds
    for group in ("first", "second"):
        assert (await world.group(group)).measured_fps == pytest.approx((await plan(world, group)).fps, rel=0.1)


async def test_a_group_that_is_undeployed_ends_and_the_other_goes_on(world: System) -> None:
    await world.box(a=StubDevice(fps=30))
    first, second = await fed(world, light(name="first")), await fed(world, light(name="second"))
    with pytest.raises(NotFoundError, match="deployed: first, second"):
        await world.control.undeploy("third")
    await world.control.undeploy("second")
    await world.until(lambda: _groups(world, ["first"]))
    await world.later(6)  # what was under way has ended, and the agent has dropped it
    [device] = (await world.view()).devices
    assert device.heartbeat is not None
    assert [a.group for a in device.heartbeat.assignments] == ["first"]
    seen = len(second.received)
    await more(world, first)
    assert len(second.received) == seen
    for results in (first, second):
        results.check()
    assert [s.group for s in (await world.control.streams()).streams] == ["first"]


async def _groups(world: System, names: list[str]) -> bool:
    return [g.name for g in (await world.view()).groups] == names


async def test_a_group_that_is_deployed_again_with_another_network_changes_over(world: System) -> None:
    await world.box(a=StubDevice(fps=30, load_s=2))
    results = await fed(world, light())
    before = await plan(world)
    await world.deploy(light(node={"model": "brightness +300"}))
    await world.until(lambda: values(results.received)[-1] >= 300)
    await more(world, results)
    assert (await plan(world)).epoch > before.epoch
    added = [int(value) // 300 for value in values(results.received)]
    assert added == sorted(added)  # once it has changed, nothing of the old network comes
    results.check()  # and the stream goes on


async def test_a_group_that_cannot_be_placed_reports_why_and_affects_no_other(world: System) -> None:
    await world.box(a=StubDevice(fps={"brightness": 30.0}))
    results = await fed(world, light())
    before = await plan(world)
    with pytest.raises(InfeasibleError, match=r"box\.stub\.a: .* does not run boxes"):
        await world.deploy(boxes_and_light(name="crowd"))
    with pytest.raises(InfeasibleError, match="pinned to nowhere, and there is no such device"):
        await world.deploy(light(name="pinned", node={"pin": ["nowhere"]}))
    assert await plan(world) == before
    await more(world, results)
    results.check()


async def test_what_does_not_fit_beside_the_more_important_waits_until_there_is_room(world: System) -> None:
    memory = {"brightness": 40.0, "brightness +1": 40.0}
    await world.box(a=StubDevice(fps=30, memory_mib=64, memory=memory))
    results = await fed(world, light(name="last", node={"model": "brightness +1"}))
    first = await fed(world, light(name="first", priority=1))
    last = await world.group("last")
    assert (last.state, last.active) == ("failed", None)
    assert "nothing is left for last/light" in last.text
    seen = len(results.received)
    await more(world, first)
    assert len(results.received) == seen  # it has made room
    await world.control.undeploy("first")
    await more(world, results)
    assert (await world.group("last")).state == "serving"
    results.check()


async def test_a_pinned_node_stays_on_its_device(world: System) -> None:
    await world.box(a=StubDevice(fps=50), b=StubDevice(fps=10))
    results = await fed(world, light(node={"pin": [B]}))
    assert set(results.devices) == {B}


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_strategies_are_compared_and_nothing_is_deployed(world: System) -> None:
    await world.box(a=StubDevice(fps=40, kind="cpu"), b=StubDevice(fps={"brightness": 60.0}))
    record, files = world.record(boxes_and_light())
    await world.control.upload(files, lambda *_: None)
    answer = await world.control.plan([record], ("all",), 60.0)
    found = {one.strategy: one for one in answer.answers}
    assert set(found) == {"default", "round-robin", "fastest", "mfs", "hfs", "optimal", "replicated"}
    assert not [one for one in answer.answers if one.error]
    assert found["default"].shares == {"find": {A: 1.0}, "light": {A: 1.0}}
    assert found["default"].fps == pytest.approx(20, rel=0.01)  # both on the only CPU
    assert found["optimal"].shares == {"find": {A: 1.0}, "light": {B: 1.0}}
    assert found["optimal"].fps == pytest.approx(40, rel=0.01)
    assert max(one.fps for one in answer.answers) <= found["replicated"].fps * 1.01
    assert answer.matrix is not None
    assert answer.matrix.fps == ((pytest.approx(40, rel=0.01), None), pytest.approx((40, 60), rel=0.01))
    assert "does not run boxes" in answer.matrix.reasons[f"boxes @ {B}"]
    assert not (await world.view()).groups


async def test_groups_are_asked_about_together(world: System) -> None:
    await world.box(a=StubDevice(fps=30))
    records = []
    for name in ("first", "second"):
        record, files = world.record(light(name=name, target_fps=10 if name == "first" else 20))
        await world.control.upload(files, lambda *_: None)
        records.append(record)
    [answer] = (await world.control.plan(records, ("optimal",), 60.0)).answers
    assert answer.group_fps == pytest.approx({"first": 10, "second": 20}, rel=0.01)  # as their targets are
    assert set(answer.shares) == {"first/light", "second/light"}


async def test_what_a_loss_leaves_is_asked_of_the_running_system(world: System) -> None:
    """Two devices of 30 and 20 FPS; each group falls back to the other device."""
    await world.box(a=StubDevice(fps=30), b=StubDevice(fps=20))
    records = []
    for name, target in (("first", 30), ("second", 20)):
        record, files = world.record(light(name=name, target_fps=target))
        await world.control.upload(files, lambda *_: None)
        records.append(record)
    [answer] = (await world.control.plan(records, ("optimal",), 60.0, each_loss=True)).answers
    assert {loss.device: loss.group_fps for loss in answer.losses} == {
        A: pytest.approx({"first": 12, "second": 8}, rel=0.01),
        B: pytest.approx({"first": 18, "second": 12}, rel=0.01),
    }
    wanted = SurviveRequest(keep=0.4)
    [answer] = (await world.control.plan(records, ("all",), 60.0, survive=wanted)).answers
    assert answer.survival is not None
    assert answer.survival.kept == pytest.approx(0.4, rel=0.01)
    assert {loss.device: loss.moved for loss in answer.losses} == {A: {"first/light": B}, B: {"second/light": A}}
    [answer] = (await world.control.plan(records, ("all",), 60.0, survive=SurviveRequest(keep=0.5))).answers
    assert answer.error is not None
    assert (answer.error.code, "The best keeps 40.0%" in answer.error.text) == ("infeasible", True)
    assert not (await world.view()).groups


# ── devices that come, and that are not what they were ────────────────────────────────────────────────────────────────


async def test_a_faster_device_takes_over_after_a_while_and_without_a_gap(world: System) -> None:
    await world.box(a=StubDevice(fps=10))
    results = await fed(world, light({"mode": "live"}), fps=4)
    since = world.clock.now()
    before = await plan(world)
    world.agent("b", StubDevice(fps=20, load_s=3))
    await world.until(lambda: results.devices[-1] == B)
    assert MIN_DWELL_S - 3 < world.clock.now() - since < MIN_DWELL_S + 6
    assert "joined" in (await plan(world)).reason
    assert (await plan(world)).epoch == before.epoch + 1
    await more(world, results)
    results.check()  # no live frame was dropped for it, either
    assert not (await world.stream()).dropped


@pytest.mark.parametrize(
    "joins",
    [StubDevice(fps=10.8), StubDevice(fps=12, load_s=14)],
    ids=["gains too little", "takes too long to load"],
)
async def test_a_device_that_is_not_worth_it_changes_nothing(world: System, joins: StubDevice) -> None:
    await world.box(a=StubDevice(fps=10))
    results = await fed(world, light(), fps=2)
    before = await plan(world)
    world.agent("b", joins)
    await world.until(lambda: _measured(world, 2), within=120, every=0.5)
    await world.later(MIN_DWELL_S + 5)
    group = await world.group()
    assert (group.active, group.next) == (before, None)
    assert set(results.devices) == {A}


async def _measured(world: System, count: int) -> bool:
    matrix = (await world.view()).matrix
    return sum(fps is not None for row in matrix.fps for fps in row) == count


async def test_a_lost_device_that_returns_gets_its_node_back(world: System) -> None:
    await world.box(a=StubDevice(fps=20), b=StubDevice(fps=10))
    results = await fed(world, light(), fps=4)
    assert results.devices[-1] == A
    await world.parts[A].kill()
    await world.until(lambda: results.devices[-1] == B)
    lost = world.clock.now()
    world.parts[A].start()
    await world.until(lambda: results.devices[-1] == A)
    assert world.clock.now() - lost > MIN_DWELL_S / 2  # it was not thrown about
    results.check()


async def test_a_device_that_became_slow_loses_its_node(world: System) -> None:
    await world.box(a=StubDevice(fps=20), b=StubDevice(fps=10))
    results = await fed(world, light())
    world.devices[A].fps = 4
    await world.until(lambda: results.devices[-1] == B, within=120)
    assert "by what was learned" in (await plan(world)).reason
    results.check()


async def test_the_number_of_objects_is_learned(world: System) -> None:
    await world.box(a=StubDevice(fps=100))
    results = await fed(world, boxes_and_light())
    assert (await world.group()).weights["light"] < 1.5
    await more(world, results, 600)
    await world.later(1)
    group = await world.group()
    assert group.weights["light"] == pytest.approx(2, abs=0.25)
    assert group.confidence["light"] > 0.7
    assert group.measured_fps == pytest.approx(100 / 3, rel=0.1)


async def test_a_plan_that_the_broker_never_takes_blocks_no_other(world: System) -> None:
    await world.box(a=StubDevice(fps=20))
    labels = {number: f"a rather long name of class number {number}" for number in range(1, 1000)}
    large = boxes_and_light(name="large")
    large["nodes"]["find"]["task"]["labels"] = labels
    results = await fed(world, large)
    served = await plan(world, "large")
    entry = await (await world.bus.kv(subjects.bucket("plans"))).get("large")
    assert entry is not None
    world.server.max_payload = int(len(entry.value or b"") * 1.6)  # room for one plan, not for the next one beside it
    world.agent("b", StubDevice(fps=100))

    async def said() -> bool:
        return "bytes; a value has" in (await world.group("large")).text

    await world.until(said, within=3 * MIN_DWELL_S)
    assert await plan(world, "large") == served
    await more(world, results)
    assert await fed(world, light(name="small"))
