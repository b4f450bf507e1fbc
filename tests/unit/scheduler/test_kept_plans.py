"""Plans that are kept ready for losses: which is computed when, and when it may be used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hams_scheduler import core
from hams_scheduler.events import (
    Command,
    DeviceSeen,
    Event,
    Follow,
    GroupSeen,
    HealthSeen,
    HeartbeatSeen,
    Lead,
    Prepare,
    Prepared,
    ProfileSeen,
    Solve,
    Solved,
    StorePlan,
    Tick,
    VariantSeen,
)
from hams_scheduler.kept_plans import CPU_PART, NEAR, Numbers, near
from hams_scheduler.leader.lease import Lease
from hams_scheduler.plan_switching import MIN_DWELL_S
from hams_scheduler.planning import Solution, decide
from hams_scheduler.ratio import Ratio
from hams_scheduler.state import SchedulerState
from hams_scheduler.view import scheduler_view
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.scheduler import ViewRequest
from support.build import device, group_record, group_spec, heartbeat, profile, variant

FPS = {"a.ov.cpu0": 30.0, "b.ov.cpu0": 25.0, "c.ov.cpu0": 20.0}
A, B, C = FPS
SPARE = "d.ov.cpu0"


class Site:
    """A scheduler that leads, with all that was asked of it carried out but :class:`Prepare`."""

    def __init__(self, *groups: str, nodes: tuple[str, ...] = ("det", "age", "sex")) -> None:
        self.state = SchedulerState(started=0.0, lease=Lease("me", term=1, led=1))
        self.now = 0.0
        self.log: list[Command] = []
        self.waiting: list[Prepare] = []
        self.devices = {name: device(name).model_copy(update={"fingerprint": name}) for name in FPS}
        self.incarnation = dict.fromkeys([*FPS, SPARE], "i1")
        self.silent: set[str] = set()
        for record in self.devices.values():
            self.do(DeviceSeen(record.device, record))
        for name in groups:
            record = group_record(group_spec(name, nodes, target_fps=1.0))
            for node in record.models:
                for on in [*self.devices.values(), device(SPARE).model_copy(update={"fingerprint": SPARE})]:
                    self.do(ProfileSeen(profile(record, node, on, FPS.get(on.device, 15.0))))
            self.do(GroupSeen(name, record))
        self.wait(4.0)

    def do(self, event: Event) -> list[Command]:
        found = core.step(self.state, event, self.now)
        self.log += found
        for command in list(found):
            if isinstance(command, Solve):
                found += self.do(Solved(command.generation, decide(command.snapshot, 0.0)))
            elif isinstance(command, Prepare):
                self.waiting.append(command)
        self.state.validate()
        return found

    def beat(self) -> None:
        for name in self.devices.keys() - self.silent:
            plans = {g: r.next or r.active for g, r in self.state.plans.records.items()}
            ready = [(g, plan.epoch) for g, plan in plans.items() if plan is not None and name in plan.devices]
            self.do(HeartbeatSeen(heartbeat(name, *ready, incarnation=self.incarnation[name])))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.beat()
            self.do(Tick())

    def prepare(self, cpu_s: float = 0.0) -> str:
        """Compute what is wanted next; return for the loss of which device that is."""
        command = self.waiting.pop()
        self.do(Prepared(command.generation, decide(command.snapshot, 0.0), cpu_s))
        return command.device

    def prepare_all(self) -> list[str]:
        found = []
        while self.waiting:
            found.append(self.prepare())
            self.wait(0.5)
        return found

    def lose(self, *names: str) -> list[Command]:
        """Return what is done in the tick that finds these lost."""
        self.silent |= set(names)
        while self.state.devices.live.peers.keys() & set(names):
            self.now += 0.25
            self.beat()
            found = self.do(Tick())
        return found


def kinds(commands: list[Command]) -> set[type]:
    return {type(command) for command in commands}


def loss(site: Site, *names: str) -> bool:
    """Lose devices; return whether the plan was ready. In either case there is a new one at once."""
    used = site.state.kept.used
    found = site.lose(*names)
    assert StorePlan in kinds(found)
    assert (Solve in kinds(found)) == (site.state.kept.used == used)
    return site.state.kept.used > used


def test_a_loss_for_which_the_plan_is_ready_is_not_solved_and_gives_what_solving_gives() -> None:
    ready, other = Site("face", "car"), Site("face", "car")
    assert sorted(ready.prepare_all()) == [A, B, C]
    assert loss(ready, A)
    assert not loss(other, A)
    plans = [{g: r.next and r.next.shares for g, r in one.state.plans.records.items()} for one in (ready, other)]
    assert plans[0] == plans[1]


def test_it_is_computed_for_each_device_that_serves_and_for_no_other() -> None:
    site = Site("face", nodes=("det",))
    assert site.prepare_all() == [A]
    assert (site.state.kept.wanted, list(site.state.kept.plans)) == (1, [A])


def test_a_view_tells_for_how_many_losses_plans_are_ready() -> None:
    site = Site("face")
    site.prepare()
    site.wait(0.5)
    view = scheduler_view(site.state, site.now)
    assert (view.losses_ready, view.losses) == (1, 3)
    _with_a_benchmark(site)
    assert scheduler_view(site.state, site.now).losses_ready == 0


def test_a_view_of_one_group_holds_it_alone() -> None:
    site = Site("face", "car")
    view = scheduler_view(site.state, site.now, wanted=ViewRequest(group="car"))
    whole = scheduler_view(site.state, site.now)
    assert [one.name for one in view.groups] == ["car"]
    assert view.groups[0] == next(one for one in whole.groups if one.name == "car")
    assert (view.devices, view.matrix.models) == ((), ())
    assert scheduler_view(site.state, site.now, wanted=ViewRequest(group="cat")).groups == ()


def test_the_only_device_has_no_successor() -> None:
    site = Site("face")
    site.lose(A, B)
    site.waiting.clear()
    site.wait(5.0)
    assert not site.waiting


def test_the_likeliest_and_costliest_losses_come_first() -> None:
    site = Site("face", "car", "cat", "dog", nodes=("det",))  # two on the fastest
    costly = max(FPS, key=lambda d: len(site.state.plans.by_device.get(d, ())))
    assert len(site.state.plans.by_device[costly]) == 2
    site.waiting.clear()
    site.state.kept.clear()
    site.do(Tick())
    assert site.waiting[-1].device == costly
    site.state.kept.clear()
    likely = next(d for d in FPS if d != costly and d in site.state.plans.by_device)
    site.do(HealthSeen(likely, DeviceHealth(device=likely, hangs=(1.0, 2.0))))
    assert site.waiting[-1].device == likely


def test_a_device_that_was_lost_before_comes_first() -> None:
    site = Site("face")
    for _ in range(2):
        site.lose(C)
        site.silent.clear()
        site.wait(20.0)
    assert site.state.kept.losses == {C: 2}
    site.state.kept.clear()
    site.wait(1.0)
    assert site.waiting[-1].device == C


def test_only_a_part_of_the_time_is_spent_on_it() -> None:
    site = Site("face")
    begun = site.now
    site.prepare(cpu_s=1.0)
    while not site.waiting:
        site.wait(0.5)
    assert site.now - begun == pytest.approx(1.0 / CPU_PART - 1.0, abs=0.5)


def test_one_at_a_time_and_none_while_something_is_to_be_solved() -> None:
    site = Site("face")
    assert len(site.waiting) == 1
    site.wait(5.0)
    assert len(site.waiting) == 1
    site.waiting.clear()
    site.state.kept.clear()
    site.state.replanning.solving = ("it is being solved", True)
    site.wait(5.0)
    assert not site.waiting


def _with_a_benchmark(site: Site) -> None:
    site.do(ProfileSeen(profile(group_record(group_spec("other")), "det", site.devices[B], 3.0)))


def _with_a_restart(site: Site) -> None:
    site.incarnation[B] = "i2"
    site.beat()


def _with_a_device(site: Site) -> None:
    site.devices[SPARE] = device(SPARE).model_copy(update={"fingerprint": SPARE})
    site.do(DeviceSeen(SPARE, site.devices[SPARE]))
    site.beat()


def _with_a_variant(site: Site) -> None:
    record = site.state.groups.records["face"]
    made = variant(record.models["age"], record.spec.nodes["age"], None)
    site.do(VariantSeen(record.models["age"].digest, made.model.digest, made))


def _with_more_work(site: Site) -> None:
    site.state.learned.runs["face", "age"] = Ratio(2000.0, 1.1e5, 1e5)
    site.state.learned.revision += 1


@pytest.mark.parametrize(
    "change", [_with_a_benchmark, _with_a_restart, _with_a_device, _with_a_variant, _with_more_work]
)
def test_what_was_computed_for_another_state_is_not_used(change: Callable[[Site], None]) -> None:
    site = Site("face")
    site.prepare_all()
    change(site)
    assert not loss(site, A)


def test_two_losses_at_once_are_another_state() -> None:
    site = Site("face")
    site.prepare_all()
    assert not loss(site, A, C)


@pytest.mark.parametrize(("factor", "used"), [(1.0 + 0.8 * NEAR, True), (1.0 + 2 * NEAR, False)])
def test_learned_numbers_may_differ_a_little(factor: float, used: bool) -> None:
    site = Site("face")
    site.state.learned.runs["face", "age"] = Ratio(2000.0, 1e6, 1e6)
    site.state.learned.revision += 1
    site.waiting.clear()
    site.state.kept.clear()
    site.wait(1.0)
    site.prepare_all()
    site.state.learned.runs["face", "age"].above *= factor
    site.state.learned.revision += 1
    assert loss(site, A) == used


def test_what_is_out_of_date_by_what_was_learned_is_computed_again() -> None:
    site = Site("face")
    site.prepare_all()
    site.wait(5.0)
    assert not site.waiting
    _with_more_work(site)
    site.wait(5.0)
    assert len(site.prepare_all()) == 3


@pytest.mark.parametrize("event", [Follow(), Lead()])
def test_another_leader_begins_anew(event: Event) -> None:
    site = Site("face")
    site.prepare_all()
    site.wait(5.0)
    plans = tuple(site.state.plans.records.values())
    event = Lead(plans, frozenset(site.state.plans.records)) if isinstance(event, Lead) else event
    site.do(event)
    assert not site.state.kept.plans
    late = Prepared(site.state.kept.generation - 1, Solution({}), 0.1)
    site.do(late)
    assert not site.state.kept.plans


def test_a_solution_that_failed_is_neither_used_nor_tried_again() -> None:
    site = Site("face")
    tried = []
    while site.waiting:
        command = site.waiting.pop()
        tried.append(command.device)
        site.do(Prepared(command.generation, None, 0.0))
        site.wait(3.0)
    assert sorted(tried) == [A, B, C]
    assert not loss(site, A)


def test_what_a_loss_does_not_change_takes_no_memory() -> None:
    site = Site("face", "car", nodes=("det",))
    site.prepare_all()
    for lost, kept in site.state.kept.plans.items():
        assert kept.solution is not None
        for group, plan in kept.solution.plans.items():
            active = site.state.plans.active(group)
            assert active is not None
            assert (plan is active) == (lost not in active.devices)


def test_a_plan_made_in_haste_is_compared_with_one_from_scratch_when_it_has_served_for_a_while() -> None:
    site = Site("face")
    site.waiting.clear()
    site.state.request_replan("in a hurry", mandatory=True)
    site.state.replanning.begin()
    same = decide(site.state.snapshot(site.state.groups.sorted(), "mfs"), 0.0)
    site.do(Solved(site.state.replanning.generation, Solution(same.plans, hasty=True)))
    at, before = site.now, len(site.log)
    while Solve not in kinds(site.log[before:]):
        site.wait(0.5)
    assert site.now - at == pytest.approx(MIN_DWELL_S, abs=1.0)
    assert not next(command for command in site.log[before:] if isinstance(command, Solve)).snapshot.hasty


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({("weight", "g", "n"): 1.0}, {("weight", "g", "n"): 1.0 + 0.9 * NEAR}, True),
        ({("weight", "g", "n"): 1.0}, {("weight", "g", "n"): 1.0 + 1.1 * NEAR}, False),
        ({("overhead", A): 0.0}, {("overhead", A): 0.00004}, True),
        ({("overhead", A): 0.0}, {("overhead", A): 0.0001}, False),
        ({("overhead", B): 0.0}, {("overhead", B): 0.1}, True),  # it is lost
        ({("overhead", B): 0.0}, {}, True),
        ({("overhead", A): 0.0}, {}, False),
        ({("kappa", A): 1.2}, {("kappa", A): 1.2, ("kappa", A, "3"): 1.21}, True),
        ({("kappa", A): 1.2}, {("kappa", A): 1.2, ("kappa", A, "3"): 1.4}, False),
        ({}, {}, True),
    ],
)
def test_about_the_same_numbers(
    one: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float], same: bool
) -> None:
    first, second = Numbers.of(one), Numbers.of(other)
    assert near(first, second, B) == near(second, first, B) == same
