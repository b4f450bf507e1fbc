"""Pairs without a number for a reason that may pass are measured later: after growing pauses, or when a fault ends."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hams_scheduler.events import GroupSeen, HealthSeen, PlanAsked, Profile, ProfileDone, StoreProfile
from hams_scheduler.network import Cell
from hams_scheduler.unanswered import PROFILE_AGAIN, PROFILE_ATTEMPTS, Unanswered
from hams_scheduler.view import scheduler_view
from hams_shared.errors import ModelError
from hams_shared.wire.messages.agents import DeviceHealth, NetworkFault
from hams_shared.wire.messages.scheduler import PlanRequest
from support.build import group_record, model_ref
from support.scheduler_world import ONE, TWO, World

CELL = Cell("key", "det", "d" * 64, (1, 3, 64, 64), "f32")


def test_attempts_in_a_row_then_after_growing_pauses() -> None:
    unanswered, now = Unanswered(), 0.0
    for attempt in range(1, PROFILE_ATTEMPTS + 1):
        assert unanswered.given_up("i1", CELL) is None
        assert unanswered.failed("i1", CELL, "no memory", now) == attempt
    for failures in range(1, 10):
        assert unanswered.given_up("i1", CELL) == "no memory"
        pause = PROFILE_AGAIN.pause(failures)
        assert not unanswered.attempt_again(now + pause - 0.1)
        assert unanswered.attempt_again(now + pause)
        assert not unanswered.attempt_again(now + pause)
        assert unanswered.given_up("i1", CELL) is None
        now += pause
        unanswered.failed("i1", CELL, "no memory", now)
    assert len(unanswered.known) == 1


def test_failures_of_one_network_on_one_agent_are_forgotten() -> None:
    unanswered = Unanswered()
    for incarnation in ("i1", "i2"):
        for _ in range(PROFILE_ATTEMPTS):
            unanswered.failed(incarnation, CELL, "no memory", 0.0)
    assert not unanswered.forget("i1", "e" * 64)
    assert unanswered.forget("i1", CELL.digest)
    assert (unanswered.given_up("i1", CELL), unanswered.given_up("i2", CELL)) == (None, "no memory")
    unanswered.keep({"i3"})
    assert not unanswered.known


class Short(World):
    """A world whose device has no memory for `det` while it is `short`."""

    short = True

    def _profile(self, command: Profile) -> None:
        if self.short and command.cell.model == "det":
            self.do(ProfileDone(command.device, command.cell, None, ModelError("CUDA failure 2: out of memory")))
        else:
            super()._profile(command)

    @property
    def state_of_group(self) -> str:
        return str(scheduler_view(self.state, self.now).groups[0].state)

    def attempts(self) -> int:
        return sum(isinstance(one, Profile) and one.cell.model == "det" for one in self.log)


def test_a_device_without_memory_is_measured_when_it_has_some() -> None:
    world = Short(ONE)
    world.do(GroupSeen("face", group_record()))
    world.wait(10.0)
    assert (world.state_of_group, world.attempts()) == ("failed", PROFILE_ATTEMPTS)
    assert world.count(StoreProfile) == 1  # of the other network: a number that is missing is not a number
    world.short = False
    world.wait(PROFILE_AGAIN.first)
    assert (world.state_of_group, world.attempts()) == ("serving", PROFILE_ATTEMPTS + 1)


def test_a_pair_that_always_fails_is_measured_ever_less_often() -> None:
    world = Short(ONE)
    world.do(GroupSeen("face", group_record()))
    tried = [world.now]
    while world.now < 3000.0:
        before = world.attempts()
        world.wait(1.0)
        tried += [world.now] * (world.attempts() > before)
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses == pytest.approx([60.0, 120.0, 240.0, 480.0, 960.0], abs=3.0)
    assert len([one for one in world.told() if one.kind == "benchmark-failed"]) == 1


def fault(*, out: bool = True) -> DeviceHealth:
    network = NetworkFault(
        digest=model_ref("det").digest,
        model="det",
        reason="it ended the process",
        runtime="test 1",
        until=1.0,
        strikes=1,
    )
    return DeviceHealth(device=ONE.device, networks=(network.model_copy(update={"out": out}),))


def test_a_network_that_is_out_is_not_measured_until_it_is_back() -> None:
    world = World(ONE)
    world.do(HealthSeen(ONE.device, fault()))
    world.do(GroupSeen("face", group_record()))
    world.wait(10.0)
    assert [one.cell.model for one in world.log if isinstance(one, Profile)] == ["age"]
    view = scheduler_view(world.state, world.now)
    assert view.groups[0].state == "failed"
    assert "it ended the process" in view.groups[0].text
    assert "it ended the process" in view.matrix.reasons[f"det @ {ONE.device}"]
    world.do(HealthSeen(ONE.device, fault(out=False)))
    world.wait(5.0)
    assert scheduler_view(world.state, world.now).groups[0].state == "serving"


def test_a_network_whose_benchmark_failed_while_it_was_out_is_measured_when_it_is_back() -> None:
    world = Short(ONE)
    world.do(GroupSeen("face", group_record()))
    world.wait(3.0)
    world.do(HealthSeen(ONE.device, fault()))
    world.wait(3.0)
    world.short = False
    world.do(HealthSeen(ONE.device, None))  # hams-ctl devices resume
    world.wait(3.0)
    assert world.state_of_group == "serving"


def test_a_question_does_not_wait_for_a_network_that_is_out() -> None:
    world = World(ONE, TWO)
    world.do(HealthSeen(ONE.device, fault()))
    world.do(PlanAsked("q", PlanRequest(group=group_record(), strategies=("mfs",))))
    world.wait(1.0)
    assert not world.state.questions
