"""The scheduler's decisions, driven as the shell drives them."""

from __future__ import annotations

import json

import pytest

from hams_scheduler import core, plan_switching, profiling
from hams_scheduler.events import (
    AdoptGroup,
    AnswerPlan,
    BrokerBack,
    DeletePlan,
    DeviceSeen,
    GroupSeen,
    HealthSeen,
    HeartbeatSeen,
    Lead,
    NotAdopted,
    PipelineSeen,
    PlanAsked,
    PlanEntrySeen,
    PlanSeen,
    Profile,
    ProfileSeen,
    Solve,
    Solved,
    StorePlan,
    StoreProfile,
    Tick,
)
from hams_scheduler.leader.lease import Lease
from hams_scheduler.learning import FRAME_S, MESSAGE_S, OUTPUT_S, shared
from hams_scheduler.offline import answers
from hams_scheduler.planning import Solution, place
from hams_scheduler.state import SchedulerState
from hams_scheduler.unanswered import PROFILE_ATTEMPTS
from hams_scheduler.view import scheduler_view
from hams_shared.errors import InfeasibleError
from hams_shared.wire.messages.agents import DeviceHealth, NodeLoad
from hams_shared.wire.messages.pipeline import PipelineLoad, StreamLoad
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.messages.scheduler import PlanRequest
from support.build import device, group_record, group_spec, heartbeat, profile
from support.scheduler_world import ONE, TWO, World, deployed, leader


def test_deploying_measures_every_pair_once_then_places_and_activates() -> None:
    world = deployed(det_one=10, det_two=2, age_one=100, age_two=100)
    assert world.count(StoreProfile) == 4
    assert world.shares() == {"det": ONE.device, "age": TWO.device}
    assert scheduler_view(world.state, world.now).groups[0].state == "serving"


def test_nothing_is_measured_twice() -> None:
    world = deployed()
    world.do(GroupSeen("face", None))
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    assert world.count(StoreProfile) == 4


def test_benchmarks_on_shared_cores_wait_for_each_other() -> None:
    unpinned = device("h.ov.cpu", cores=())
    world = World(ONE, TWO, unpinned)
    record = group_record()
    world.state.groups.set_record("face", record)
    started = profiling.start_due(world.state, [record], world.now)
    assert [c.device for c in started if isinstance(c, Profile)] == [TWO.device, ONE.device] or len(started) == 1
    busy = set(world.state.profiles.running)
    assert not (unpinned.device in busy and len(busy) > 1)


def test_the_plan_is_active_only_when_all_its_devices_are_ready() -> None:
    world = World(ONE, TWO)
    world.loads = False
    world.do(GroupSeen("face", group_record()))
    world.wait(2.0)
    assert world.state.plans.records["face"].active is None
    assert scheduler_view(world.state, world.now).groups[0].state == "loading"
    world.loads = True
    world.wait(1.0)
    assert world.state.plans.records["face"].next is None
    assert world.epoch() == 1


def test_a_lost_device_moves_its_nodes_and_epochs_only_grow() -> None:
    world = deployed(det_one=10, det_two=2)
    assert world.shares()["det"] == ONE.device
    before = world.epoch()
    world.dead.add(ONE.device)
    world.wait(4.0)
    assert set(world.shares().values()) == {TWO.device}
    assert world.epoch() > before
    epochs = [c.record.newest for c in world.log if isinstance(c, StorePlan)]
    assert epochs == sorted(epochs)


def test_a_goodbye_moves_nodes_at_once() -> None:
    world = deployed(det_one=10, det_two=2)
    world.dead.add(ONE.device)
    world.do(DeviceSeen(ONE.device, None))
    world.beat()
    assert set(world.shares().values()) == {TWO.device}


def test_a_returned_device_gets_its_node_back_because_that_pays() -> None:
    world = deployed(det_one=10, det_two=2)
    world.dead.add(ONE.device)
    world.wait(4.0)
    world.dead.clear()
    world.incarnation[ONE.device] = "another life"
    world.wait(2.0)
    assert world.shares()["det"] == TWO.device  # not at once: it might go again
    world.wait(plan_switching.MIN_DWELL_S)
    assert world.shares()["det"] == ONE.device


def test_a_quick_restart_keeps_the_plan() -> None:
    world = deployed()
    before = world.epoch()
    world.incarnation[ONE.device] = "another life"
    world.wait(2.0)
    assert world.epoch() == before


def test_a_new_device_that_brings_little_changes_nothing() -> None:
    world = deployed(det_one=10, det_two=10, age_one=1000, age_two=1000)
    before = world.epoch()
    slow = device("h.ov.cpu7", cores=(7,))
    world.devices[slow.device] = slow
    world.incarnation[slow.device] = "its first"
    world.fps.update({("det", slow.device): 1.0, ("age", slow.device): 1.0})
    world.do(DeviceSeen(slow.device, slow))
    world.wait(2.0)
    assert world.count(StoreProfile) == 6
    assert world.epoch() == before


def test_an_unsupported_pair_is_an_entry_with_its_reason() -> None:
    world = deployed(det_two=0, age_two=0)
    assert set(world.shares().values()) == {ONE.device}
    matrix = scheduler_view(world.state, world.now).matrix
    assert matrix.reasons[f"det @ {TWO.device}"] == "operator Foo is unknown"
    assert matrix.fps[0][matrix.devices.index(TWO.device)] is None


def test_a_model_that_runs_nowhere_fails_the_group_with_the_reasons() -> None:
    world = deployed(det_one=0, det_two=0)
    [view] = scheduler_view(world.state, world.now).groups
    assert view.state == "failed"
    assert view.error is not None
    assert "face/det runs on no device" in view.error.text
    assert "operator Foo is unknown" in view.error.text


def test_a_group_that_cannot_be_placed_is_in_nobodys_way() -> None:
    world = World(ONE, TWO)
    world.fps = {("bad", ONE.device): 0, ("bad", TWO.device): 0}
    world.do(GroupSeen("a", group_record(group_spec("a", ("bad",), priority=5))))
    spec = group_spec("pinned", ("det",))
    spec.nodes["det"] = spec.nodes["det"].model_copy(update={"pin": ("nowhere",)})
    world.do(GroupSeen("pinned", group_record(spec)))
    world.wait(2.0)
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    world.dead.add(ONE.device)
    world.wait(4.0)
    assert set(world.shares().values()) == {TWO.device}  # and it is moved when it must
    views = {view.name: view for view in scheduler_view(world.state, world.now).groups}
    assert [views[name].state for name in ("a", "pinned", "face")] == ["failed", "failed", "serving"]
    bad, pinned = views["a"].error, views["pinned"].error
    assert bad is not None
    assert bad.text == "node a/bad runs on no device: h.ort.cpu1: operator Foo is unknown"
    assert pinned is not None
    assert pinned.text == "node pinned/det runs on no device: it is pinned to nowhere, and there is no such device"
    assert views["face"].error is None


def test_groups_that_do_not_fit_together_serve_in_the_order_of_their_importance() -> None:
    small = device("h.ov.cpu0", cores=(0,), memory_mib=25)  # two nodes of 10 MiB
    world = World(small)
    world.do(GroupSeen("first", group_record(group_spec("first", ("det",)), deployed_at=1.0)))
    world.do(GroupSeen("second", group_record(group_spec("second", ("age",)), deployed_at=2.0)))
    world.wait(2.0)
    world.do(GroupSeen("third", group_record(group_spec("third", ("eye",)), deployed_at=3.0)))
    world.wait(2.0)
    world.do(GroupSeen("vital", group_record(group_spec("vital", ("lip",), priority=1), deployed_at=4.0)))
    world.wait(2.0)
    states = {view.name: view.error is None for view in scheduler_view(world.state, world.now).groups}
    assert states == {"first": True, "second": False, "third": False, "vital": True}
    assert world.state.plans.records.keys() == {"first", "vital"}  # nothing serves in a place that was given to another
    world.do(GroupSeen("vital", None))
    world.wait(2.0)
    assert world.state.plans.records.keys() == {"first", "second"}


def test_the_error_of_a_pinned_node_lists_only_its_devices() -> None:
    spec = group_spec("pinned", ("det",))
    spec.nodes["det"] = spec.nodes["det"].model_copy(update={"pin": (ONE.device,)})
    world = World(ONE, TWO)
    world.fps = {("det", ONE.device): 0}
    world.do(GroupSeen("pinned", group_record(spec)))
    world.wait(2.0)
    error = scheduler_view(world.state, world.now).groups[0].error
    assert error is not None
    assert error.text == f"node pinned/det runs on no device: {ONE.device}: operator Foo is unknown"


def test_devices_with_the_same_reason_are_listed_together() -> None:
    world = deployed(det_one=0, det_two=0)
    error = scheduler_view(world.state, world.now).groups[0].error
    assert error is not None
    assert error.text == f"node face/det runs on no device: {TWO.device}, {ONE.device}: operator Foo is unknown"


def test_a_refusal_takes_the_device_out_of_the_group() -> None:
    world = World(ONE, TWO)
    world.fps = {("det", ONE.device): 10.0, ("det", TWO.device): 2.0}
    world.refusing[ONE.device] = "out of memory"
    world.do(GroupSeen("face", group_record()))
    world.wait(3.0)
    assert set(world.shares().values()) == {TWO.device}


def test_refused_everywhere_is_a_failure_that_says_why() -> None:
    world = World(ONE)
    world.refusing[ONE.device] = "there is no task 'foo'"
    world.do(GroupSeen("face", group_record()))
    world.wait(3.0)
    [view] = scheduler_view(world.state, world.now).groups
    assert view.state == "failed"
    assert "there is no task 'foo'" in view.text


def test_a_refusal_of_an_earlier_deployment_does_not_count_for_the_next() -> None:
    world = World(ONE)
    world.refusing[ONE.device] = "there is no task 'foo'"
    world.do(GroupSeen("face", group_record()))
    world.wait(3.0)
    epoch = world.state.plans.epoch
    del world.refusing[ONE.device]
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    beat = heartbeat(ONE.device, incarnation=world.incarnation[ONE.device], refused=("face", epoch, "late"))
    world.do(HeartbeatSeen(beat))
    world.wait(2.0)
    assert scheduler_view(world.state, world.now).groups[0].state == "serving"


def test_a_benchmark_without_answer_is_tried_again_and_then_given_up() -> None:
    world = World(ONE)
    world.answers = False
    world.do(GroupSeen("face", group_record()))
    world.wait(3.0)
    [view] = scheduler_view(world.state, world.now).groups
    assert view.state == "failed"
    assert "no answer" in view.text
    assert sum(isinstance(c, Profile) for c in world.log) == 2 * PROFILE_ATTEMPTS
    assert world.count(StoreProfile) == 0


def test_a_new_scheduler_goes_on_with_the_plan_it_finds() -> None:
    old = deployed(det_one=10, det_two=2)
    state = leader()
    for record in old.state.profiles.records.values():
        core.step(state, ProfileSeen(record), 0.0)
    core.step(state, PlanSeen(old.state.plans.records["face"]), 0.0)
    core.step(state, GroupSeen("face", old.state.groups.records["face"]), 0.0)
    new = World(ONE, TWO, state=state)
    assert new.epoch() == old.epoch()
    assert not new.count(StorePlan)


def went_back(world: World, epoch: int, term: int) -> PlanEntrySeen:
    """KV holds an older plan of `face` than the one that is known, which was there."""
    known = world.state.plans.records["face"]
    assert known.active is not None
    older = known.active.model_copy(update={"epoch": epoch})
    return PlanEntrySeen("face", PlanRecord(group="face", active=older, term=term), back=True)


def test_a_leader_writes_again_what_went_back_with_the_store() -> None:
    world = deployed()
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    known, event = world.state.plans.records["face"], went_back(world, 1, term=1)
    assert known.newest == 2
    assert StorePlan(known) in core.step(world.state, event, world.now)
    assert world.state.plans.records["face"] == known
    assert event.record is not None
    late = PlanEntrySeen("face", event.record)  # of an own write, before the newest
    there = PlanEntrySeen("face", known.model_copy(update={"term": 1}), back=True)
    for one in (late, there):
        assert not any(isinstance(command, StorePlan) for command in core.step(world.state, one, world.now))


def test_who_followed_while_a_plan_went_back_writes_it_once_it_leads() -> None:
    world = deployed()
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    known, event = world.state.plans.records["face"], went_back(world, 1, term=1)
    assert event.record is not None
    world.follow()
    world.do(event)
    assert world.state.plans.records["face"] == known
    world.state.lease.term += 1
    world.state.lease.begin()
    lead = Lead((event.record,), frozenset({"face"}), back=frozenset({"face"}))
    assert StorePlan(known) in core.step(world.state, lead, world.now)


def test_what_a_later_leader_wrote_counts_although_revisions_went_back() -> None:
    world = deployed()
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    event = went_back(world, 1, term=9)
    assert event.record is not None
    world.follow()
    world.do(event)
    assert world.state.plans.records["face"] == event.record.model_copy(update={"term": 0})


def test_a_plan_whose_group_was_undeployed_meanwhile_is_deleted() -> None:
    old = deployed()
    state = leader()
    core.step(state, PlanSeen(old.state.plans.records["face"]), 0.0)
    plan = old.state.plans.records["face"].active
    assert plan is not None
    assert AdoptGroup(plan.group) in core.step(state, Tick(), 5.0)  # or was the store lost?
    assert AdoptGroup(plan.group) not in core.step(state, Tick(), 5.5)
    assert DeletePlan("face") in core.step(state, NotAdopted("face"), 6.0)


def test_undeploying_deletes_the_plan() -> None:
    world = deployed()
    world.do(GroupSeen("face", None))
    assert DeletePlan("face") in world.log
    assert world.state.plans.records == {}


def test_redeploying_makes_a_new_epoch() -> None:
    world = deployed()
    before = world.epoch()
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    world.wait(2.0)
    assert world.epoch() == before + 1


def test_a_question_is_answered_when_all_is_measured_and_deploys_nothing() -> None:
    world = World(ONE, TWO)
    world.do(PlanAsked("q", PlanRequest(group=group_record(), strategies=("mfs",))))
    [answer] = [c for c in world.log if isinstance(c, AnswerPlan)]
    assert place(answer.snapshot).fps > 0
    assert world.state.plans.records == {}


def test_two_groups_are_placed_together() -> None:
    world = deployed(det_one=10, det_two=9, age_one=1000, age_two=1000)
    world.do(GroupSeen("car", group_record(group_spec("car"))))
    world.wait(2.0)
    assert {world.shares("face")["det"], world.shares("car")["det"]} == {ONE.device, TWO.device}


def loads(world: World, frames: int, seconds: float, busy: dict[str, float], per_frame: dict[str, float]) -> None:
    """Heartbeats of a group that ran `frames` frames in `seconds`; `busy` is s per inference."""
    active = world.state.plans.records["face"].active
    assert active is not None
    for name in sorted(world.devices):
        nodes = []
        for node in active.nodes_on(name):
            count = int(frames * per_frame.get(node, 1.0))
            spent = count * busy[node]
            nodes.append(NodeLoad(group="face", node=node, frames=frames, inferences=count, busy_s=spent))
        beat = heartbeat(name, ("face", active.epoch), incarnation=world.incarnation[name])
        world.do(HeartbeatSeen(beat.model_copy(update={"nodes": tuple(nodes), "uptime_s": seconds})))


def test_more_objects_per_frame_move_nodes_and_less_is_expected() -> None:
    world = deployed(det_one=20, det_two=10, age_one=100, age_two=40)
    assert world.shares() == {"det": ONE.device, "age": TWO.device}
    world.wait(plan_switching.MIN_DWELL_S)
    loads(world, 0, 1.0, {"det": 0, "age": 0}, {})
    loads(world, 1000, 200.0, {"det": 0.05, "age": 0.025}, {"age": 8.0})  # a crowd: age takes 0.2 s a frame
    [view] = scheduler_view(world.state, world.now).groups
    assert view.weights["age"] == pytest.approx(8, rel=0.1)
    assert view.expected_fps == pytest.approx(5.0, rel=0.05)
    world.wait(plan_switching.MIN_DWELL_S)
    assert world.shares() == {"det": TWO.device, "age": ONE.device}


def test_a_small_drift_changes_nothing() -> None:
    world = deployed(det_one=20, det_two=10, age_one=100, age_two=40)
    before = world.epoch()
    world.wait(plan_switching.MIN_DWELL_S)
    loads(world, 0, 1.0, {"det": 0, "age": 0}, {})
    loads(world, 1000, 60.0, {"det": 0.055, "age": 0.025}, {})
    world.wait(plan_switching.MIN_DWELL_S)
    assert world.epoch() == before


def test_a_throttled_device_loses_its_heavy_node() -> None:
    world = deployed(det_one=20, det_two=15, age_one=1000, age_two=1000)
    assert world.shares()["det"] == ONE.device
    world.wait(plan_switching.MIN_DWELL_S)
    loads(world, 0, 1.0, {"det": 0, "age": 0}, {})
    loads(world, 1000, 300.0, {"det": 0.15, "age": 0.001}, {})  # three times slower than measured
    world.wait(plan_switching.MIN_DWELL_S)
    assert world.shares()["det"] == TWO.device


def unanswered() -> tuple[World, Profile]:
    """A world whose first benchmark was begun and is never answered."""
    world = World(ONE)
    commands = core.step(world.state, GroupSeen("face", group_record()), world.now)
    [begun] = [command for command in commands if isinstance(command, Profile)]
    return world, begun


def test_a_benchmark_whose_answer_was_lost_is_known_from_kv() -> None:
    """The agent writes what it measured when it is connected again; its other benchmarks wait no longer."""
    world, begun = unanswered()
    world.wait(2.0)
    assert world.count(Profile) == 0
    found = profile(group_record(), "det" if begun.cell.model == "det" else "age", ONE, 10.0)
    assert found.key == begun.cell.key
    world.do(ProfileSeen(found))
    assert world.count(Profile) == 1
    world.wait(2.0)
    assert world.shares("face")["det"] == ONE.device


def test_benchmarks_are_requested_again_when_the_broker_is_back() -> None:
    world, begun = unanswered()
    world.do(BrokerBack())
    assert begun in world.log
    world.wait(2.0)
    assert world.shares("face")["det"] == ONE.device


def test_what_a_question_waits_for_is_told() -> None:
    world, begun = unanswered()
    asked = group_record(group_spec("other", nodes=("det", "age", "more")))
    told = profiling.waits_for(world.state, asked)
    assert told.startswith(f"3 benchmarks; running: {begun.cell.model} on {ONE.device}; not begun: ")
    world.do(BrokerBack())
    assert profiling.waits_for(world.state, group_record()) == "its answer, which is being computed"
    world.dead = {ONE.device}
    world.wait(6.0)
    assert profiling.waits_for(world.state, asked) == "a device: none is alive"
    world.follow()
    assert "does not lead" in profiling.waits_for(world.state, asked)


CPU = device("h.ov.cpu", cores=(0, 1)).model_copy(update={"host_cores": 2.0, "lanes": 2})


def on_all_cores(*names: str) -> World:
    """Groups of two light nodes on a device of two cores: 500 images/s each, so 4 ms of CPU time."""
    world = World(CPU)
    world.fps = {("det", CPU.device): 500.0, ("age", CPU.device): 500.0}
    for name in names:
        world.do(GroupSeen(name, group_record(group_spec(name))))
        world.wait(2.0)
    for record in list(world.state.profiles.records.values()):
        world.state.profiles.add(record.model_copy(update={"lanes": 2}))
    return world


def test_the_cores_of_the_host_limit_light_networks() -> None:
    """Two inferences of 4 ms a frame would be 250 FPS by the device; messages and the pipeline need cores, too."""
    world = on_all_cores("face")
    [view] = scheduler_view(world.state, world.now).groups
    frame_s = 0.008 * shared(2) + 2 * MESSAGE_S + FRAME_S + 2 * OUTPUT_S
    assert view.predicted_fps == pytest.approx(2 * 0.95 / frame_s, rel=1e-3)
    assert view.bottleneck == "host h's cores"
    assert "limited by host h's cores" in view.text
    assert view.expected_fps == pytest.approx(view.predicted_fps)


def test_a_saved_matrix_knows_the_cores() -> None:
    """What `matrix --json` prints answers what more cores would give."""
    world = on_all_cores("face")
    view = scheduler_view(world.state, world.now)
    saved = json.loads(view.matrix.model_dump_json())
    [answer] = answers(saved, ("hfs",), 1.0)
    assert answer["fps"] == pytest.approx(view.groups[0].predicted_fps, rel=1e-3)
    [more] = answers(saved, ("hfs",), 1.0, ("cores:h=+2",))
    assert answer["bottleneck"] == "host h's cores"
    assert more["fps"] == pytest.approx(250)


def test_a_group_that_its_host_limits_has_not_drifted() -> None:
    """The device computes for half of the time only, and that is what was predicted."""
    world = on_all_cores("face")
    world.wait(2 * plan_switching.MIN_DWELL_S)
    loads(world, 0, 1.0, {"det": 0, "age": 0}, {})
    loads(world, 6000, 41.0, {"det": 0.001, "age": 0.001}, {})
    before = world.count(Solve)
    world.wait(2 * plan_switching.MIN_DWELL_S)
    assert world.count(Solve) == before


def test_what_is_predicted_counts_the_groups_that_came_later() -> None:
    world = on_all_cores("face")
    [alone] = scheduler_view(world.state, world.now).groups
    world.do(GroupSeen("car", group_record(group_spec("car"))))
    world.wait(2.0)
    both = scheduler_view(world.state, world.now).groups
    frame_s = 0.008 * shared(4) + 2 * MESSAGE_S + FRAME_S + 2 * OUTPUT_S
    assert [view.predicted_fps for view in both] == pytest.approx([0.95 / frame_s] * 2, rel=1e-3)
    world.do(GroupSeen("car", None))
    world.wait(2.0)
    [again] = scheduler_view(world.state, world.now).groups
    assert again.predicted_fps == pytest.approx(alone.predicted_fps)
    assert f"predicted {alone.predicted_fps:.2f} FPS" in again.text


@pytest.mark.parametrize(("beside", "nodes"), [("cpu", 5), ("gpu", 2)])
def test_groups_that_must_share_the_cpus_slow_each_other_down(beside: str, nodes: int) -> None:
    """Where there are other devices, some of the nodes may go there."""
    world = World(CPU, device("h.x.y", kind=beside))
    records = [group_record(group_spec("face")), group_record(group_spec("car", ("det", "age", "plate")))]
    for record in records:
        world.do(GroupSeen(record.spec.name, record))
    factors = world.state.snapshot(records, "hfs").cpu_factor
    assert factors[CPU.device, 2] == shared(nodes)
    assert factors[CPU.device, 3] == shared(max(nodes, 3))


def test_what_frames_cost_is_learned_from_serving() -> None:
    world = on_all_cores("face")
    [before] = scheduler_view(world.state, world.now).groups
    stream = StreamLoad(group="face", stream="cam", frames=0, read_cpu_s=0.0)
    first = PipelineLoad(host="h", incarnation="p", uptime_s=1.0, cpu_s=0.0, streams=(stream,))
    world.do(PipelineSeen(first))
    world.do(
        PipelineSeen(first.model_copy(update={"uptime_s": 101.0, "cpu_s": 60.0, "results": 9000, "outputs": 9000}))
    )
    [after] = scheduler_view(world.state, world.now).groups
    assert after.predicted_fps < 0.6 * before.predicted_fps


def starved() -> World:
    """One device, whose groups are one that serves, and one of higher priority that leaves nothing to it."""
    world = World(ONE)
    world.fps = {("det", ONE.device): 10.0, ("age", ONE.device): 10.0}
    world.do(GroupSeen("face", group_record()))
    world.wait(2.0)
    world.do(GroupSeen("vital", group_record(group_spec("vital", priority=1, target_fps=100.0))))
    world.wait(2.0)
    return world


def test_a_group_without_a_share_of_its_device_keeps_its_place() -> None:
    """Its predicted FPS are 0: agents give it what the group of higher priority leaves."""
    world = starved()
    assert world.shares("face")["det"] == world.shares("vital")["det"] == ONE.device
    plans = {name: record.active for name, record in world.state.plans.records.items()}
    assert plans["vital"] is not None
    assert plans["vital"].fps > 0
    assert world.state.groups.errors == {}


def test_a_group_without_a_share_that_serves_anyway_is_no_drift() -> None:
    """Capacity that is measured of a group for which 0 FPS are predicted."""
    world = starved()
    record = world.state.plans.records["face"]
    assert record.active is not None
    starving = record.active.model_copy(update={"fps": 0.0})
    world.state.plans.put(record.model_copy(update={"active": starving}))
    world.wait(plan_switching.MIN_DWELL_S)
    loads(world, 0, 1.0, {"det": 0, "age": 0}, {})
    loads(world, 1000, 60.0, {"det": 0.05, "age": 0.01}, {})
    assert world.state.learned.spent_s("face", ONE.device, 0.0, 0.0) > 0
    before = len([command for command in world.log if isinstance(command, Solve)])
    world.wait(plan_switching.MIN_DWELL_S)
    assert len([command for command in world.log if isinstance(command, Solve)]) == before


@pytest.mark.parametrize("field", ["active", "next"])
def test_an_empty_plan_record_has_epoch_zero(field: str) -> None:
    record = PlanRecord(group="face")
    assert record.newest == 0
    assert getattr(record, field) is None


def test_a_follower_takes_the_news_and_decides_nothing() -> None:
    world = World(ONE, TWO, state=SchedulerState(started=0.0, lease=Lease("me")))
    world.do(GroupSeen("face", group_record()))
    world.wait(5)
    assert world.log == []
    world.lead(*world.state.plans.records.values())
    world.wait(2)
    assert world.epoch() == 1
    world.follow()
    before = len(world.log)
    world.dead.add(next(iter(world.devices)))
    world.wait(10)
    assert len(world.log) == before


def test_a_new_leader_leaves_a_good_plan_alone() -> None:
    old = deployed()
    world = World(ONE, TWO, state=SchedulerState(started=0.0, lease=Lease("me")))
    for record in old.state.profiles.records.values():
        world.do(ProfileSeen(record))
    world.do(GroupSeen("face", old.state.groups.records["face"]))
    world.do(PlanSeen(old.state.plans.records["face"]))
    world.lead(*world.state.plans.records.values())
    world.wait(10)
    assert world.epoch() == old.epoch()
    assert world.count(StorePlan) == 0


def test_epochs_grow_over_a_store_that_was_lost() -> None:
    world = World(ONE)
    world.do(HeartbeatSeen(heartbeat(ONE.device, ("face", 41), incarnation=world.incarnation[ONE.device])))
    world.do(GroupSeen("face", group_record()))
    world.wait(2)
    assert world.epoch() == 42


def test_a_quarantined_device_gets_no_work_until_it_is_resumed() -> None:
    world = deployed()
    victim = next(iter(world.shares().values()))
    world.do(HealthSeen(victim, DeviceHealth(device=victim, quarantined=True, reason="hung 3 times")))
    world.wait(2)
    assert victim not in world.shares().values()
    [view] = [d for d in scheduler_view(world.state, world.now).devices if d.record.device == victim]
    assert view.state == "quarantined"
    assert view.health is not None
    assert view.health.reason == "hung 3 times"
    world.do(HealthSeen(victim, None))
    assert victim in world.state.devices.alive()


def test_a_group_that_lost_its_device_is_placed_as_soon_as_another_is_measured() -> None:
    """A new leader finds a plan on a device that is gone, and the device that is there was never measured."""
    world = deployed()
    plans, groups = tuple(world.state.plans.records.values()), world.state.groups.records
    three = device("h.ov.cpu2", cores=(2,))
    heir = World(three, state=SchedulerState(started=0.0, lease=Lease("me")))
    for record in groups.values():
        heir.do(GroupSeen("face", record))
    heir.lead(*plans)
    heir.wait(5.0)
    assert set(heir.shares().values()) == {three.device}
    assert scheduler_view(heir.state, heir.now).groups[0].state == "serving"


def test_epochs_grow_over_plans_that_were_deleted() -> None:
    """The group was undeployed and all schedulers began anew: only agents remember."""
    world = World(ONE)
    beat = heartbeat(ONE.device, incarnation=world.incarnation[ONE.device]).model_copy(update={"epoch": 41})
    world.do(HeartbeatSeen(beat))
    world.do(GroupSeen("face", group_record()))
    world.wait(2)
    assert world.epoch() == 42


def test_a_group_redeployed_while_its_only_device_was_away_is_placed_when_that_is_back() -> None:
    world = deployed(det_two=0, age_two=0)
    world.dead.add(ONE.device)
    world.do(DeviceSeen(ONE.device, None))
    world.do(GroupSeen("face", group_record(deployed_at=2.0)))
    assert "face" in world.state.groups.errors
    world.dead.clear()
    world.do(DeviceSeen(ONE.device, ONE))
    world.wait(2.0)
    active = world.state.plans.records["face"].active
    assert active is not None
    assert active.group.deployed_at == 2.0
    assert "face" not in world.state.groups.errors


def test_why_a_group_cannot_be_placed_is_forgotten_when_it_is_undeployed_meanwhile() -> None:
    world = World(ONE)
    world.do(GroupSeen("face", group_record()))
    world.state.replanning.solving = ("it was requested", True)
    world.do(GroupSeen("face", None))
    world.do(
        Solved(world.state.replanning.generation, Solution({}, failed={"face": InfeasibleError("there is no device")}))
    )
    assert world.state.groups.errors == {}


def test_a_plan_that_all_refused_is_deleted_with_its_group() -> None:
    """It was undeployed while no scheduler ran, and there is nothing to write it back from."""
    state = leader()
    core.step(state, PlanSeen(PlanRecord(group="face")), 0.0)
    assert core.step(state, Tick(), 5.0)[-1:] == [DeletePlan("face")]
    assert state.plans.records == {}


def test_what_an_agent_refused_in_an_earlier_life_is_forgotten() -> None:
    world = World(ONE, TWO)
    world.answers = False
    for life in range(20):
        world.do(GroupSeen("face", group_record()))
        world.wait(5.0)
        assert {device for device, _ in world.state.profiles.unanswered.known} <= set(world.incarnation.values())
        world.state.groups.banned[(world.incarnation[ONE.device], f"digest {life}")] = "why"
        world.incarnation[ONE.device] = f"life {life}"
        world.beat()
        assert len(world.state.groups.banned) <= 1
    assert world.state.profiles.unanswered.known
