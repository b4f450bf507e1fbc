from __future__ import annotations

from collections.abc import Callable

import pytest

from hams_agents.core import (
    HANDOVER_S,
    LINGER_S,
    LOAD_AGAIN,
    LOAD_TRIES,
    NOTICE_S,
    RETIRE_S,
    AgentState,
    Announce,
    BrokerSeen,
    Command,
    DropNode,
    Handover,
    LoadNode,
    NetworkKey,
    NodeLoaded,
    PlanSeen,
    Tick,
    step,
)
from hams_shared.errors import BrokerError, DeadlineError, HamsError, ModelError, NotFoundError, TaskError
from hams_shared.wire.messages.plan import PlanRecord, VariantChoice
from hams_shared.wire.variants import embedded_input
from support.build import model_ref, plan

ME, OTHER = "h.b.me", "h.b.other"


def seen(state: AgentState, now: float = 0.0, **plans: object) -> list[Command]:
    return step(state, PlanSeen("face", PlanRecord.model_validate({"group": "face", **plans})), now)


def loads(commands: list[Command]) -> list[tuple[int, str]]:
    return [(c.plan.epoch, c.node) for c in commands if isinstance(c, LoadNode)]


def drops(commands: list[Command]) -> list[tuple[int, str]]:
    return [(c.epoch, c.node) for c in commands if isinstance(c, DropNode)]


def ready(state: AgentState, epoch: int, *nodes: str) -> None:
    for node in nodes:
        assert step(state, NodeLoaded("face", epoch, node), 0.0) == [Announce()]


def test_loads_only_its_own_nodes_parents_first() -> None:
    state = AgentState(ME)
    assert loads(seen(state, next=plan(1, {"det": ME, "age": ME}))) == [(1, "det"), (1, "age")]
    assert loads(seen(AgentState(ME), next=plan(1, {"det": OTHER, "age": ME}))) == [(1, "age")]
    assert loads(seen(AgentState(ME), next=plan(1, {"det": OTHER, "age": OTHER}))) == []


def test_says_ready_when_all_nodes_are_loaded() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME, "age": ME}))
    ready(state, 1, "det")
    assert [(a.state, a.loaded, a.total) for a in state.view()] == [("loading", 1, 2)]
    ready(state, 1, "age")
    assert [a.state for a in state.view()] == ["ready"]


def test_refuses_a_plan_it_cannot_load_and_says_why() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME, "age": ME}))
    step(state, NodeLoaded("face", 1, "det", TaskError("no such task")), 0.0)
    [assignment] = state.view()
    assert assignment.state == "refused"
    assert assignment.error is not None
    assert assignment.error.text == "no such task"
    refusal = state.admit("face", 1, "det")
    assert refusal is not None
    assert refusal.text == "no such task"


def fails(state: AgentState, error: HamsError, now: float) -> None:
    assert step(state, NodeLoaded("face", 1, "det", error, "" if isinstance(error, TaskError) else "d"), now) == [
        Announce()
    ]
    state.validate()


@pytest.mark.parametrize("error", [BrokerError("away"), DeadlineError("no answer"), NotFoundError("not stored")])
def test_a_load_that_fails_by_the_broker_is_tried_again(error: HamsError) -> None:
    state, now = AgentState(ME), 0.0
    seen(state, next=plan(1, {"det": ME}))
    for failures in range(1, LOAD_TRIES):
        assert state.excuses("face", 1, "det", error)
        fails(state, error, now)
        assert [(a.state, a.loaded) for a in state.view()] == [("loading", 0)]
        assert state.remarks() == (f"node det of group face is not loaded yet and tried again: {error.text}",)
        pause = LOAD_AGAIN.pause(failures)
        assert loads(step(state, Tick(), now + pause - 0.1)) == []
        assert loads(step(state, Tick(), now + pause)) == [(1, "det")]
        assert loads(step(state, Tick(), now + 2 * pause)) == []  # it is under way
        now += pause
    assert not state.excuses("face", 1, "det", error)
    fails(state, error, now)
    assert [(a.state, a.digest) for a in state.view()] == [("refused", "d")]
    assert state.remarks() == ()
    assert loads(step(state, Tick(), now + 100)) == []


def test_a_load_that_succeeds_at_last_is_as_any_other() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME}))
    fails(state, DeadlineError("no answer"), 0.0)
    assert loads(step(state, Tick(), 1.0)) == [(1, "det")]
    ready(state, 1, "det")
    state.validate()
    assert [a.state for a in state.view()] == ["ready"]
    assert state.remarks() == ()


def test_loads_that_fail_while_the_broker_is_away_are_not_counted() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME}))
    assert step(state, BrokerSeen(there=False), 0.0) == []
    for now in range(0, 600, 6):
        fails(state, DeadlineError("the broker is away"), float(now))
        assert loads(step(state, Tick(), now + 1.0)) == [(1, "det")]
    step(state, BrokerSeen(there=True), 600.0)
    assert state.excuses("face", 1, "det", DeadlineError("no answer"))


def test_a_load_is_not_tried_again_once_its_plan_is_over_or_refused() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME, "age": ME}))
    fails(state, DeadlineError("no answer"), 0.0)
    step(state, NodeLoaded("face", 1, "age", TaskError("no such task")), 0.0)
    assert loads(step(state, Tick(), 10.0)) == []
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME}))
    fails(state, DeadlineError("no answer"), 0.0)
    seen(state, active=plan(2, {"det": OTHER}))
    assert loads(step(state, Tick(), 1.0)) == []
    for now in (1.0, RETIRE_S + 1.0):  # a load that was under way meanwhile: nothing is held against the network
        step(state, Tick(), now)
        assert state.excuses("face", 1, "det", DeadlineError("no answer"))
        assert not state.excuses("face", 1, "det", ModelError("no such operator"))


def test_errors_of_the_network_and_its_task_are_final() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME}))
    assert not state.excuses("face", 1, "det", ModelError("no such operator"))
    assert not state.excuses("face", 1, "det", TaskError("no such task"))


def test_serves_the_active_plan_while_it_loads_the_next() -> None:
    state = AgentState(ME)
    one, two = plan(1, {"det": ME, "age": OTHER}), plan(2, {"det": ME, "age": ME})
    seen(state, active=one)
    ready(state, 1, "det")
    assert loads(seen(state, active=one, next=two)) == [(2, "det"), (2, "age")]
    assert state.admit("face", 1, "det") is None
    assert state.admit("face", 2, "det") is not None  # not loaded yet


def test_an_old_plan_serves_on_for_a_while_after_the_switch() -> None:
    state = AgentState(ME)
    one, two = plan(1, {"det": ME, "age": ME}), plan(2, {"det": ME, "age": OTHER})
    seen(state, active=one)
    ready(state, 1, "det", "age")
    seen(state, now=10.0, active=one, next=two)
    ready(state, 2, "det")
    assert drops(seen(state, now=20.0, active=two)) == []
    assert state.admit("face", 1, "age") is None
    assert drops(step(state, Tick(), 20.0 + RETIRE_S - 0.1)) == []
    assert drops(step(state, Tick(), 20.0 + RETIRE_S)) == [(1, "det"), (1, "age")]
    refusal = state.admit("face", 1, "age")
    assert refusal is not None
    assert refusal.code == "stale-epoch"


def test_who_stops_is_counted_on_until_others_serve() -> None:
    state = AgentState(ME)
    seen(state, active=plan(1, {"det": ME, "age": OTHER}))
    assert (state.counted_on(), state.moving) == ({"face"}, set())
    seen(state, active=plan(1, {"det": ME, "age": OTHER}), next=plan(2, {"det": OTHER, "age": OTHER}))
    assert (state.counted_on(), state.moving) == ({"face"}, {"face"})
    seen(state, active=plan(2, {"det": OTHER, "age": OTHER}))
    assert (state.counted_on(), state.moving) == (set(), set())
    seen(state, active=plan(3, {"det": ME, "age": OTHER}))
    seen(state, active=plan(1, {"det": ME, "age": OTHER}), next=plan(2, {"det": OTHER, "age": OTHER}))
    assert state.moving == set()  # a record of an older epoch says nothing


def test_a_record_of_an_older_epoch_is_ignored() -> None:
    state = AgentState(ME)
    seen(state, active=plan(5, {"det": ME, "age": ME}))
    assert seen(state, active=plan(4, {"det": ME, "age": OTHER})) == []
    assert [a.epoch for a in state.view()] == [5]


def test_a_record_of_an_older_epoch_that_has_a_newer_next_plan_is_taken() -> None:
    """The store went back in time, and the scheduler goes on from there, above all epochs that agents know."""
    state = AgentState(ME)
    seen(state, active=plan(5, {"det": ME, "age": ME}))
    found = seen(state, active=plan(4, {"det": ME, "age": OTHER}), next=plan(6, {"det": ME, "age": ME}))
    assert loads(found) == [(4, "det"), (6, "det"), (6, "age")]
    assert state.counted_on() == {"face"}
    state.validate()


def test_a_group_that_was_deleted_may_begin_anew_with_any_epoch() -> None:
    """All schedulers that knew its epochs may be gone, and no other agent may have seen them."""
    state = AgentState(ME)
    seen(state, active=plan(7, {"det": ME, "age": ME}))
    step(state, PlanSeen("face", None), 1.0)
    assert state.epoch == 7
    seen(state, active=plan(1, {"det": ME, "age": OTHER}))
    assert loads(seen(state, active=plan(1, {"det": ME, "age": OTHER}), next=plan(2, {"det": ME, "age": ME}))) == [
        (2, "det"),
        (2, "age"),
    ]


def test_an_undeployed_group_is_dropped_at_once() -> None:
    state = AgentState(ME)
    seen(state, active=plan(1, {"det": ME, "age": ME}))
    ready(state, 1, "det", "age")
    assert drops(step(state, PlanSeen("face", None), 1.0)) == [(1, "det"), (1, "age")]
    assert state.view() == ()


def test_a_load_that_ends_after_its_plan_was_dropped_is_undone() -> None:
    state = AgentState(ME)
    seen(state, next=plan(1, {"det": ME, "age": ME}))
    step(state, PlanSeen("face", None), 1.0)
    assert step(state, NodeLoaded("face", 1, "det"), 2.0) == [DropNode("face", 1, "det")]


def test_work_for_unknown_groups_and_nodes_is_refused() -> None:
    state = AgentState(ME)
    seen(state, active=plan(1, {"det": ME, "age": OTHER}))
    ready(state, 1, "det")
    for group, epoch, node in (("car", 1, "det"), ("face", 2, "det"), ("face", 1, "age")):
        refusal = state.admit(group, epoch, node)
        assert refusal is not None
        assert refusal.code == "refused"


def test_a_variant_is_loaded_where_the_plan_says_so_with_the_input_it_takes() -> None:
    shared = plan(1, {"det": ME, "age": ME})
    age = shared.group.spec.nodes["age"]
    bytes_ = embedded_input(age.input)
    choice = VariantChoice(model=model_ref("age-int8"), label="int8", agreement=0.99, input=bytes_)
    with_variant = shared.model_copy(update={"variants": {"age": {ME: choice}, "det": {OTHER: choice}}})
    found = {c.node: c for c in seen(AgentState(ME), next=with_variant) if isinstance(c, LoadNode)}
    assert found["det"].model == model_ref("det")
    assert found["age"].model == choice.model
    assert found["age"].key == NetworkKey(choice.model.digest, (1, 32, 32, 3), "u8")


# ── handover ──────────────────────────────────────────────────────────────────────────────────────────────────────


def serving(state: AgentState) -> None:
    seen(state, active=plan(1, {"det": ME}))
    ready(state, 1, "det")


def test_an_agent_that_serves_nothing_drains_at_once() -> None:
    assert Handover(AgentState(ME), 0.0).ended(0.0)


def test_an_agent_that_nobody_relieves_drains_after_the_notice() -> None:
    state = AgentState(ME)
    serving(state)
    handover = Handover(state, 10.0)
    assert [handover.ended(10.0 + t) for t in (0.0, NOTICE_S, NOTICE_S + 0.1)] == [False, False, True]
    assert (handover.remaining, handover.taken) == ({"face"}, set())


def test_an_agent_waits_longer_once_a_plan_does_without_it() -> None:
    state = AgentState(ME)
    serving(state)
    handover = Handover(state, 0.0)
    seen(state, active=plan(1, {"det": ME}), next=plan(2, {"det": OTHER}))
    assert [handover.ended(t) for t in (NOTICE_S + 0.1, HANDOVER_S, HANDOVER_S + 0.1)] == [False, False, True]


def test_a_relieved_agent_takes_frames_that_are_under_way_then_drains() -> None:
    state = AgentState(ME)
    serving(state)
    handover = Handover(state, 0.0)
    seen(state, active=plan(2, {"det": OTHER}))
    assert [handover.ended(t) for t in (1.0, 1.0 + LINGER_S - 0.1, 1.0 + LINGER_S)] == [False, False, True]
    assert (handover.remaining, handover.taken) == (set(), {"face"})


# ── the state's own rules ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (lambda s: s.assignments[("face", 1)].loaded.add("age"), "unasked"),
        (lambda s: s.assignments[("face", 1)].networks.clear(), "not what the plan gives"),
        (lambda s: s.assignments.update({("face", 2): s.assignments[("face", 1)]}), "of another plan"),
        (lambda s: s.epochs.update(face=2), "is to be served"),
        (lambda s: (s.moving.add("face"), s.epochs.clear()), "does without it"),
    ],
)
def test_a_state_that_contradicts_itself_is_found(fault: Callable[[AgentState], object], text: str) -> None:
    state = AgentState(ME)
    serving(state)
    state.validate()
    fault(state)
    with pytest.raises(AssertionError, match=text):
        state.validate()
