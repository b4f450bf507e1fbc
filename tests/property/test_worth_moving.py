"""Optional changes come to an end: nothing moves to and fro while the numbers stay the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.plan_switching import DWELL_S, WORTH_MOVING
from hams_scheduler.planning import Solution, decide
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan
from support.build import device, group_record, group_spec, profile
from support.examples import examples

DEVICES = tuple(device(f"h.ov.npu{number}", kind="npu", cores=()) for number in range(3))


def groups_of(rng: np.random.Generator, number: int, strategy: str) -> tuple[GroupRecord, ...]:
    found = []
    for name in "abc"[:number]:
        target = [None, 5.0, 20.0, 60.0][rng.integers(4)]
        nodes = tuple(f"{name}{node}" for node in range(1 + rng.integers(3)))
        extra = {} if target is None else {"target_fps": target}
        found.append(group_record(group_spec(name, nodes, strategy=strategy, priority=int(rng.integers(2)), **extra)))
    return tuple(found)


def snapshot(seed: int, number: int, strategy: str) -> PlanningSnapshot:
    """Groups that serve at random places."""
    rng = np.random.default_rng(seed)
    groups = groups_of(rng, number, strategy)
    current, profiles = {}, {}
    for group in groups:
        for node in group.spec.nodes:
            for on in DEVICES:
                found = profile(group, node, on, float(rng.uniform(5, 90)), float(rng.uniform(10, 500)))
                profiles[found.key] = found
            current[f"{group.spec.name}/{node}"] = {DEVICES[rng.integers(len(DEVICES))].device: 1.0}
    return PlanningSnapshot(
        groups=groups,
        devices=DEVICES,
        profiles=profiles,
        unanswered={},
        refused={},
        strategy=strategy,
        time_limit_s=20.0,
        current=current,
    )


def worth(solution: Solution) -> bool:
    return solution.gain >= WORTH_MOVING and (solution.gain - 1.0) * DWELL_S > solution.load_s


def moved(known: PlanningSnapshot, plans: dict[str, Plan]) -> PlanningSnapshot:
    """All plans of the solution are in force."""
    current = {f"{name}/{node}": dict(on) for name, plan in plans.items() for node, on in plan.shares.items()}
    return replace(known, current=current)


@examples(30)
@given(
    st.integers(0, 10**6),
    st.integers(2, 3),
    st.sampled_from(["mfs", "hfs", "optimal", "fastest", "default", "replicated"]),
)
def test_what_was_worth_it_stays(seed: int, number: int, strategy: str) -> None:
    now = snapshot(seed, number, strategy)
    first = decide(now, 0.0)
    if worth(first):
        now = moved(now, first.plans)
        second = decide(now, 0.0)
        assert not worth(second), (first.gain, second.gain)
        assert all(plan.shares for plan in second.plans.values())


@examples(15)
@given(st.integers(0, 10**6), st.integers(2, 3), st.sampled_from(["mfs", "hfs", "optimal"]))
def test_noise_below_the_gain_that_is_worth_it_moves_nothing_to_and_fro(seed: int, number: int, strategy: str) -> None:
    """Speeds change by up to 2 % each time, as what is learned does: it moves once or twice, not again and again."""
    now, rng, moves = snapshot(seed, number, strategy), np.random.default_rng(seed + 1), 0
    for _ in range(12):
        noisy = {k: p.model_copy(update={"fps": p.fps * rng.uniform(0.98, 1.02)}) for k, p in now.profiles.items()}
        found = decide(replace(now, profiles=noisy), 0.0)
        if worth(found):
            moves += 1
            now = moved(now, found.plans)
    assert moves <= 2
