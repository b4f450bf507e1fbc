"""The parts of the state keep their indexes, and a heartbeat costs work only for what it concerns."""

from __future__ import annotations

import pytest

from hams_scheduler import profiling
from hams_scheduler.events import HeartbeatSeen, ProfileSeen, StorePlan, Tick
from hams_scheduler.plan_index import Plans
from hams_scheduler.state_parts import Devices, Replanning, StateError
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.plan import PlanRecord
from support.build import device, group_record, heartbeat, plan, profile
from unit.scheduler.test_scheduler_core import ONE, TWO, deployed

A, B = "h.ov.cpu0", "h.ov.cpu1"


@pytest.mark.parametrize(
    ("requests", "reason", "mandatory"),
    [
        ([("a", False)], "a", False),
        ([("a", False), ("b", False)], "b", False),
        ([("a", True), ("b", False)], "a", True),  # the reason that forces it stays
        ([("a", False), ("b", True)], "b", True),
        ([("a", True), ("b", True)], "b", True),
    ],
)
def test_requests_for_a_new_solution(requests: list[tuple[str, bool]], reason: str, mandatory: bool) -> None:
    replanning = Replanning()
    for why, must in requests:
        replanning.request(why, mandatory=must)
        replanning.validate()
    assert (replanning.reason, replanning.mandatory) == (reason, mandatory)
    replanning.begin()
    replanning.validate()
    assert (replanning.solving, replanning.reason, replanning.mandatory) == ((reason, mandatory), "", False)


def test_plans_are_found_by_device_until_they_move_or_go() -> None:
    plans = Plans()
    first, second = plan(1, {"det": A, "age": B}), plan(2, {"det": B, "age": B})
    plans.put(PlanRecord(group="face", next=first))
    plans.validate()
    assert (plans.pending, plans.by_device, plans.active_on(A)) == ({"face"}, {A: {"face"}, B: {"face"}}, {})
    plans.put(PlanRecord(group="face", active=first, next=second))
    plans.validate()
    assert plans.active_on(A) == plans.active_on(B) == {"face": first}
    plans.put(PlanRecord(group="face", active=second))
    plans.validate()
    assert (plans.pending, plans.by_device, plans.epoch) == (set(), {B: {"face"}}, 2)
    plans.remove("face")
    plans.validate()
    assert (plans.by_device, plans.epoch) == ({}, 2)


def test_living_devices_follow_every_change() -> None:
    devices = Devices()
    devices.heard(heartbeat(A), 0.0)
    devices.validate()
    assert devices.alive() == []  # it has no record yet
    devices.set_record(A, device(A))
    assert devices.alive() == [A]
    devices.set_health(A, DeviceHealth(device=A, quarantined=True))
    assert devices.alive() == []
    devices.set_health(A, None)
    assert devices.alive() == [A]
    devices.expire(100.0)
    assert devices.alive() == []
    devices.heard(heartbeat(A), 100.0)
    assert devices.alive() == [A]
    devices.leave(A)
    assert devices.alive() == []


def test_a_change_that_passes_by_the_index_is_found() -> None:
    plans = Plans()
    plans.records["face"] = PlanRecord(group="face", next=plan(1, {"det": A, "age": A}))
    plans.epoch = 1
    with pytest.raises(StateError, match="pending"):
        plans.validate()


def test_heartbeats_without_news_and_ticks_look_for_no_cells_anew() -> None:
    world = deployed()
    [record] = world.state.groups.sorted()
    before = profiling.needed(world.state, record)
    for _ in range(20):
        world.now += 0.5
        world.beat()
        world.do(Tick())
    assert profiling.needed(world.state, record) is before
    world.do(ProfileSeen(profile(group_record(), "det", ONE, 77.0)))
    assert profiling.needed(world.state, record) is before, "no cell was missing, so none is missing less"


def test_cells_are_looked_for_anew_when_devices_or_networks_change_and_when_one_was_missing() -> None:
    world = deployed()
    [record] = world.state.groups.sorted()
    before = profiling.needed(world.state, record)
    other = device("h.new.unit")
    world.state.devices.set_record(other.device, other)
    world.state.devices.heard(heartbeat(other.device), world.now)
    wider = profiling.needed(world.state, record)
    assert wider is not before
    assert {wanted.device for wanted in wider.missing} == {other.device}
    world.state.profiles.add(profile(group_record(), "det", other, 77.0))
    assert len(profiling.needed(world.state, record).missing) == len(wider.missing) - 1
    world.state.groups.set_variant("source", "variant", None)
    assert profiling.needed(world.state, record) is not wider


def test_a_heartbeat_activates_the_plans_that_wait_for_its_device_and_no_others() -> None:
    world = deployed(det_one=10, det_two=2)
    record = world.state.plans.records["face"]
    assert record.active is not None
    epoch = world.state.plans.epoch + 1
    world.state.plans.put(PlanRecord(group="face", next=record.active.model_copy(update={"epoch": epoch})))
    count = world.count(StorePlan)
    for name in (TWO.device, ONE.device):
        assert world.state.plans.pending == {"face"}
        world.do(HeartbeatSeen(heartbeat(name, ("face", epoch), incarnation=world.incarnation[name])))
    assert (world.state.plans.pending, world.epoch(), world.count(StorePlan)) == (set(), epoch, count + 1)
