"""Groups that stand still are placed at once, and what one device refuses or has lost concerns nobody else."""

from __future__ import annotations

import pytest

from hams_scheduler import plan_switching
from hams_scheduler.events import DeviceSeen, GroupSeen, HealthSeen, HeartbeatSeen, Profile
from hams_scheduler.standing_still import stands_still
from hams_scheduler.view import scheduler_view
from hams_shared.wire.messages.agents import AssignmentState, DeviceHealth, DeviceRecord, NetworkFault, NodeLoad
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan
from support.build import group_record, group_spec, heartbeat, model_ref, only
from support.scheduler_world import ONE, TWO, World

DET = model_ref("det").digest


class AgentsWorld(World):
    """As agents behave: a plan that was refused stays refused, whatever comes back. Benchmarks may take for ever."""

    def __init__(self, *devices: DeviceRecord) -> None:
        self.out: dict[str, str] = {}
        """By device: the digest of the network that is out there."""
        self.never: set[tuple[str, str, int]] = set()
        """(device, group, epoch) of refused plans."""
        self.busy = False
        super().__init__(*devices)

    def _profile(self, command: Profile) -> None:
        if not self.busy:
            super()._profile(command)

    def beat(self) -> None:
        for name in sorted(self.devices.keys() - self.dead):
            plans = [p for r in self.state.plans.records.values() for p in (r.active, r.next) if p is not None]
            states = tuple(self._assignment(name, plan) for plan in plans if name in plan.devices)
            beat = heartbeat(name, incarnation=self.incarnation[name])
            self.do(HeartbeatSeen(beat.model_copy(update={"assignments": states})))

    def _assignment(self, device: str, plan: Plan) -> AssignmentState:
        group, digest = plan.group.spec.name, self.out.get(device, "")
        if any(plan.model_on(node, device).digest == digest for node in plan.nodes_on(device)):
            self.never.add((device, group, plan.epoch))
        if (device, group, plan.epoch) in self.never:
            error = WireError(code="internal", text="det fails")
            return AssignmentState(group=group, epoch=plan.epoch, state="refused", error=error, digest=DET)
        return AssignmentState(group=group, epoch=plan.epoch, state="ready", loaded=1, total=1)

    def take_out(self, device: str, *, tell: bool = True) -> None:
        """`det` fails its self-test there."""
        self.out[device] = DET
        if tell:
            fault = NetworkFault(digest=DET, model="det", reason="it fails", runtime="r")
            self.do(HealthSeen(device, DeviceHealth(device=device, networks=(fault,))))
        self.wait(1.0)

    def bring_back(self, device: str) -> None:
        """Its time is over: it is tried again."""
        del self.out[device]
        fault = NetworkFault(digest=DET, model="det", reason="it fails", runtime="r", out=False)
        self.do(HealthSeen(device, DeviceHealth(device=device, networks=(fault,))))
        self.wait(1.0)

    def state_of(self, group: str) -> str:
        return {one.name: one.state for one in scheduler_view(self.state, self.now).groups}[group]

    def where(self, group: str, node: str) -> str:
        return self.shares(group)[node]


def serving(*groups: GroupRecord, **fps: float) -> AgentsWorld:
    world = AgentsWorld(ONE, TWO)
    for key, value in fps.items():
        node, unit = key.split("_")
        world.fps[node, {"one": ONE, "two": TWO}[unit].device] = value
    for group in groups:
        world.do(GroupSeen(group.spec.name, group))
    world.wait(2.0)
    return world


def test_a_group_whose_network_is_out_does_not_wait_for_benchmarks_of_others() -> None:
    world = serving(only("a", "det"), det_one=20, det_two=10)
    assert world.where("a", "det") == ONE.device
    world.busy = True
    world.do(GroupSeen("b", only("b", "age")))
    world.wait(1.0)
    world.take_out(ONE.device)
    assert world.where("a", "det") == TWO.device
    assert world.state_of("a") == "serving"


def test_nor_does_one_whose_plan_is_refused() -> None:
    world = serving(only("a", "det"), det_one=20, det_two=10)
    world.busy = True
    world.do(GroupSeen("b", only("b", "age")))
    world.wait(1.0)
    world.take_out(ONE.device, tell=False)
    assert world.where("a", "det") == TWO.device


def test_it_waits_for_the_benchmark_that_it_needs_itself() -> None:
    """Without it there is no other place: until then the plan is kept, not given up."""
    world = serving(only("a", "det"), det_one=20)
    plan = world.state.plans.active("a")
    assert plan is not None
    del world.state.profiles.records[next(k for k, r in world.state.profiles.records.items() if r.fps == 10.0)]
    world.state.profiles.forgotten += 1
    world.busy = True
    world.take_out(ONE.device)
    assert world.state.plans.active("a") == plan
    assert world.state.groups.errors == {}


def test_what_stands_still() -> None:
    world = serving(only("a", "det"), only("b", "age"), det_one=20, det_two=10)
    assert not stands_still(world.state, "a")
    assert not stands_still(world.state, "unknown")
    device = world.where("b", "age")
    world.dead.add(device)
    world.state.devices.leave(device)
    assert stands_still(world.state, "b")
    assert not stands_still(world.state, "a") or world.where("a", "det") == device


def waiting(world: AgentsWorld) -> None:
    """The group loses TWO, to which it is pinned, while `det` is out on ONE for a while."""
    world.dead.add(TWO.device)
    world.do(DeviceSeen(TWO.device, None))
    world.wait(1.0)
    world.take_out(ONE.device)
    world.bring_back(ONE.device)


def pinned_child() -> GroupRecord:
    """`det` runs on ONE only, `age` on TWO only."""
    spec = group_spec("a")
    spec.nodes["age"] = spec.nodes["age"].model_copy(update={"pin": (TWO.device,)})
    return group_record(spec)


def test_a_network_that_is_tried_again_is_not_banned_by_the_refusal_of_before() -> None:
    world = serving(pinned_child(), det_one=20, det_two=0)
    waiting(world)
    assert world.state.groups.banned == {}
    world.dead.clear()
    world.do(DeviceSeen(TWO.device, TWO))
    world.wait(2 * plan_switching.MIN_DWELL_S)
    assert world.state_of("a") == "serving"
    assert not stands_still(world.state, "a")


def test_a_refused_plan_is_published_again_once_its_network_is_back() -> None:
    """There is no other place, and the solution is late: the network is back before."""
    world = serving(only("a", "det"), det_one=20, det_two=0)
    before = world.epoch("a")
    world.state.replanning.solving = ("something else", True)
    world.take_out(ONE.device)
    world.bring_back(ONE.device)
    assert stands_still(world.state, "a")
    world.state.replanning.solving = None
    world.wait(2.0)
    assert world.epoch("a") == before + 1
    assert not stands_still(world.state, "a")
    world.wait(60.0)
    assert world.epoch("a") == before + 1


def test_two_groups_with_the_network_are_both_asked_again() -> None:
    world = serving(only("a", "det"), only("b", "det"), det_one=20, det_two=0)
    world.state.replanning.solving = ("something else", True)
    world.take_out(ONE.device)
    world.bring_back(ONE.device)
    assert world.state.groups.banned == {}
    world.state.replanning.solving = None
    world.wait(2.0)
    assert [world.state_of(name) for name in "ab"] == ["serving", "serving"]
    assert not any(stands_still(world.state, name) for name in "ab")


def test_a_network_that_fails_again_is_banned_again() -> None:
    world = serving(only("a", "det"), det_one=20, det_two=10)
    world.take_out(ONE.device, tell=False)
    assert world.where("a", "det") == TWO.device
    assert world.state.groups.banned
    world.wait(60.0)
    assert world.where("a", "det") == TWO.device


def test_one_group_that_waits_for_a_device_hides_nothing_of_the_others() -> None:
    world = serving(only("a", "det"), only("b", "age", TWO.device), det_one=20, det_two=1)
    predicted = world.state.prediction().fps["a"]
    world.dead.add(TWO.device)
    world.wait(4.0)
    found = world.state.prediction()
    assert found.fps.keys() == {"a"}
    assert found.fps["a"] == pytest.approx(predicted)
    assert found.cores.keys() == {"a"} or not found.cores
    world.wait(2 * plan_switching.MIN_DWELL_S)
    assert world.state.replanning.predicted.keys() == {"a"}
    world.dead.clear()
    world.wait(2 * plan_switching.MIN_DWELL_S)
    assert world.state.replanning.predicted.keys() == {"a", "b"}


def test_a_group_that_comes_back_is_no_drift_of_the_others() -> None:
    world = serving(only("a", "det"), only("b", "age", TWO.device), det_one=20, det_two=1)
    world.dead.add(TWO.device)
    world.wait(60.0)
    world.dead.clear()
    world.wait(60.0)
    assert world.state.replanning.drifted_at == float("-inf")


def frames(world: AgentsWorld, device: str, node: str, count: int, seconds: float) -> None:
    load = NodeLoad(group="a", node=node, frames=count, inferences=count, busy_s=seconds / 2)
    beat = heartbeat(device, ("a", world.epoch("a")), incarnation=world.incarnation[device])
    world.do(HeartbeatSeen(beat.model_copy(update={"nodes": (load,), "uptime_s": seconds})))


def test_a_group_that_stands_still_has_no_frame_rate() -> None:
    world = serving(only("a", "det", ONE.device), det_one=50)
    frames(world, ONE.device, "det", 0, 1.0)
    frames(world, ONE.device, "det", 250, 11.0)
    assert round(world.state.measured_fps("a"), 3) == 25.0
    world.dead.add(ONE.device)
    world.wait(4.0)
    assert world.state.measured_fps("a") == 0.0


def test_nor_has_one_that_was_withdrawn() -> None:
    world = serving(only("a", "det"), det_one=50, det_two=0)
    frames(world, ONE.device, "det", 0, 1.0)
    frames(world, ONE.device, "det", 250, 11.0)
    world.take_out(ONE.device)
    assert world.state_of("a") == "failed"
    assert world.state.measured_fps("a") == 0.0
