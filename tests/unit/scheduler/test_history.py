"""What the history tells: each change once, in order, with its reason, and nothing that another scheduler told."""

from __future__ import annotations

import pytest

from hams_scheduler.events import DeviceSeen, GroupSeen, HealthSeen, HistoryRead, HistoryTold, ProfileSeen
from hams_scheduler.history_texts import plan_text
from hams_scheduler.leader.lease import Lease
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.history import HistoryEntry
from hams_shared.wire.messages.plan import Plan, VariantChoice
from support.build import group_record, group_spec, model_ref, plan
from support.scheduler_world import ONE, TWO, World, deployed

A, B = ONE.device, TWO.device
BOTH = plan(1, {"det": A, "age": B})


def with_variant(of: Plan, node: str, device: str) -> Plan:
    choice = VariantChoice(model=model_ref(f"{node}-int8"), label="int8", agreement=0.99)
    return of.model_copy(update={"variants": {node: {device: choice}}})


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, BOTH, f"det on {A}; age on {B}; 10.0 FPS predicted"),
        (None, plan(2, {"det": A, "age": A}), f"det, age on {A}; 10.0 FPS predicted"),
        (BOTH, plan(2, {"det": A, "age": A}), f"age moves from {B} to {A}; 10.0 → 10.0 FPS predicted"),
        (plan(1, {"det": A, "age": A}), plan(2, {"det": B, "age": B}), f"det, age move from {A} to {B}; 10.0 → "),
        (BOTH, with_variant(BOTH, "age", B), "age takes the variant int8; 10.0 → 10.0 FPS predicted"),
        (with_variant(BOTH, "age", B), BOTH, "age takes the network of the group file; 10.0 → 10.0"),
        (
            BOTH,
            BOTH.model_copy(update={"shares": {"det": {A: 0.5, B: 0.5}, "age": {B: 1.0}}}),
            f"from {A} to {B} and {A}",
        ),
        (BOTH, BOTH.model_copy(update={"fps": 3.0}), "plan 1 of face: 10.0 → 3.0 FPS predicted"),
    ],
)
def test_the_text_of_a_plan(before: Plan | None, after: Plan, text: str) -> None:
    assert text in plan_text(after, before)


def test_of_many_moves_a_text_tells_some() -> None:
    nodes = ("det", *(f"n{i}" for i in range(9)))
    spec = group_spec(nodes=nodes)
    text = plan_text(plan(2, {n: f"h.b.u{i}" for i, n in enumerate(nodes)}, spec), None)
    assert "n2 on h.b.u3; 6 more changes; 10.0 FPS predicted" in text


def test_a_group_that_misses_its_target() -> None:
    after = plan(1, {"det": A, "age": A}, group_spec(target_fps=25)).model_copy(update={"unmet": True})
    assert plan_text(after, None).endswith("10.0 FPS predicted, below the target of 25")


def kinds(world: World) -> list[str]:
    return [entry.kind for entry in world.told()]


def since(world: World, count: int) -> list[str]:
    return [entry.sentence for entry in world.told()[count:]]


START = ["device-here", "device-here", "group-deployed", "plan", "plan-active"]


def test_a_device_that_is_lost_and_comes_back() -> None:
    world = deployed(det_one=10, det_two=2, age_one=30, age_two=30)
    assert kinds(world) == START
    world.dead.add(A)
    world.wait(4.0)
    assert kinds(world)[len(START) :] == ["device-lost", "plan", "plan-active"]
    lost, moved, _ = world.told()[len(START) :]
    assert (lost.sentence, lost.key) == (f"device {A} is lost (no heartbeat for 1.5 s)", f"{A} 1")
    assert f"moves from {A} to {B}" in moved.text or f"move from {A} to {B}" in moved.text
    assert moved.reason == f"device {A} sent no heartbeat for 1.5 s"
    assert A in moved.devices
    assert (moved.fps_before > moved.fps, moved.epoch) == (True, world.epoch())
    world.dead.clear()
    world.incarnation[A] = "second life"
    world.wait(1.0)
    assert since(world, len(START) + 3)[0] == f"device {A} is back (its agent was started again)"


def test_an_agent_that_is_restarted_before_it_is_missed() -> None:
    world = deployed()
    world.incarnation[A] = "second life"
    world.wait(1.0)
    assert since(world, len(START)) == [f"device {A} is back (its agent was restarted)"]


def test_a_device_that_says_goodbye() -> None:
    world = deployed()
    world.dead.add(B)
    world.do(DeviceSeen(B, None))
    assert f"device {B} is lost (it was stopped)" in since(world, len(START))


def test_quarantine_and_resume() -> None:
    world = deployed(det_one=10, det_two=2)
    world.do(HealthSeen(A, DeviceHealth(device=A, hangs=(1.0,), quarantined=True, reason="age hung for 10 s")))
    world.do(HealthSeen(A, DeviceHealth(device=A, hangs=(1.0,), quarantined=True, reason="age hung for 10 s")))
    world.wait(1.0)
    found = since(world, len(START))
    assert found[0] == f"device {A} is quarantined: it gets no work (age hung for 10 s)"
    assert sum("quarantined" in one for one in found) == 2  # the plan that follows from it has it as its reason
    world.do(HealthSeen(A, None))
    assert f"device {A} is resumed (by hams-ctl devices resume)" in since(world, len(START))


def test_groups_come_and_go() -> None:
    world = deployed()
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    world.do(GroupSeen("face", None))
    world.wait(2.0)
    found = [entry for entry in world.told() if entry.group == "face"]
    assert [entry.text for entry in found if entry.kind.startswith("group-")] == [
        "group face is deployed: 2 nodes, 0 streams",
        "group face is deployed again: 2 nodes, 0 streams",
        "group face is undeployed",
    ]


def test_a_group_without_a_place_is_told_once_while_that_is_so() -> None:
    world = World(ONE)
    world.fps = {("det", A): 0.0}
    world.do(GroupSeen("face", group_record()))
    world.wait(30.0)
    found = [entry for entry in world.told() if entry.kind == "unplaced"]
    assert len(found) == 1
    assert "det" in found[0].reason


def test_a_benchmark_that_is_given_up_is_told_once() -> None:
    world = World(ONE)
    world.answers = False
    world.do(GroupSeen("face", group_record()))
    world.wait(10.0)
    found = [entry.sentence for entry in world.told() if entry.kind == "benchmark-failed"]
    assert found == [f"the benchmark of {node} on {A} failed (no answer)" for node in ("det", "age")]


def test_a_refusal_and_the_plan_that_is_given_up() -> None:
    world = deployed(det_one=10, det_two=9)
    world.refusing[B] = "no such task"
    world.dead.add(A)
    world.wait(4.0)
    found = world.told()[len(START) :]
    assert [entry.kind for entry in found][:4] == ["device-lost", "plan", "refused", "plan-dropped"]
    assert found[2].sentence == f"{B} refuses plan 2 of face (no such task)"
    assert found[3].reason == f"{B} refused: no such task"


# ── of several schedulers, and of one that begins again ───────────────────────────────────────────────────────────


def successor(of: World, *, told: int | None = None, complete: bool = True, dead: tuple[str, ...] = ()) -> World:
    """A scheduler that reads what another wrote, and leads."""
    state = SchedulerState(started=0.0, lease=Lease("other", term=1))
    world = World(*(one for one in (ONE, TWO) if one.device not in dead), state=state)
    for one in (ONE, TWO):
        world.do(DeviceSeen(one.device, one))
    for group, record in of.state.groups.records.items():
        world.do(GroupSeen(group, record))
    for profile in of.state.profiles.records.values():
        world.do(ProfileSeen(profile))
    world.do(HistoryRead(tuple(of.told()[:told]), complete=complete))
    world.lead(*of.state.plans.records.values())
    world.wait(3.0)
    return world


def test_a_successor_tells_nothing_twice() -> None:
    assert kinds(successor(deployed())) == ["leader"]


@pytest.mark.parametrize("told", range(len(START) + 1))
def test_a_successor_tells_what_its_predecessor_did_not_live_to_tell(told: int) -> None:
    assert kinds(successor(deployed(), told=told))[1:] == START[told:]


def test_what_is_older_than_the_entries_that_are_read_is_no_news() -> None:
    assert kinds(successor(deployed(), told=0, complete=False)) == ["leader"]


def test_a_successor_tells_what_happened_while_none_led() -> None:
    found = successor(deployed(det_one=10, det_two=2), dead=(A,))
    assert kinds(found)[:3] == ["leader", "device-lost", "plan"]


def test_a_follower_takes_what_the_leader_tells() -> None:
    world = deployed()
    world.follow()
    world.do(HistoryRead(tuple(world.told())))
    lost = HistoryEntry(id="x", by="scheduler", kind="device-lost", text="", device=A, key=f"{A} 1")
    world.do(HistoryTold(lost))
    world.log.clear()
    world.lead(*world.state.plans.records.values())
    assert since(world, 1) == [f"device {A} is back (its heartbeats arrive again)"]


def test_without_a_journal_what_happens_from_then_on_is_told() -> None:
    world = World(ONE)
    world.follow()
    world.log.clear()
    world.lead()
    world.wait(2.0)
    assert kinds(world) == ["leader"]
    world.do(HistoryRead((), complete=False))
    world.do(GroupSeen("face", group_record()))
    world.wait(2.0)
    assert kinds(world) == ["leader", "group-deployed", "plan", "plan-active"]
