from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import Instance, NoPlacementError, Problem
from hams_scheduler.solver.near_levels import near
from hams_scheduler.solver.placement import assignment_rows
from hams_scheduler.solver.replan import TOLERANCE, change, replan
from hams_scheduler.solver.strategies.registry import solve
from support.examples import examples
from support.wait import PATIENCE


def instance(models: int, devices: int, seed: int, capacity: float = np.inf) -> Instance:
    rng = np.random.default_rng(seed)
    speed = rng.uniform(0.5, 4.0, devices)
    fps = rng.lognormal(3, 0.8, (models, 1)) * speed * rng.uniform(0.5, 1.5, (models, devices))
    return Instance(
        tuple(f"m{i}" for i in range(models)),
        tuple(f"d{i}" for i in range(devices)),
        np.where(rng.random((models, devices)) < 0.1, 0, fps) + (np.arange(devices) == 0) * 1e-3,
        memory_mib=rng.uniform(10, 50, models),
        capacity_mib=np.full(devices, capacity),
    )


def without(whole: Instance, lost: str) -> Instance:
    keep = [i for i, d in enumerate(whole.devices) if d != lost]
    return whole.replace(
        devices=tuple(whole.devices[i] for i in keep),
        fps=whole.fps[:, keep],
        capacity_mib=whole.capacity_mib[keep],
    )


def lose(whole: Instance, lost: str) -> tuple[Problem, np.ndarray, np.ndarray]:
    before = solve(whole, "mfs")
    rest = without(whole, lost)
    reference = assignment_rows(rest, solve(rest, "mfs").shares)
    return Problem.of(rest), assignment_rows(rest, before.shares), reference


def test_nothing_to_do_moves_nothing() -> None:
    whole = instance(8, 3, 1)
    rows = assignment_rows(whole, solve(whole, "mfs").shares)
    assert (replan(Problem.of(whole), rows, rows) == rows).all()


def test_a_lost_device_moves_its_nodes_and_few_others() -> None:
    moves, fresh, mandatory = [], [], []
    for seed in range(10):
        problem, current, reference = lose(instance(30, 8, seed), "d3")
        result = replan(problem, current, reference)
        moves.append(int((result != current).sum()))
        fresh.append(int((reference != current).sum()))
        mandatory.append(int((current < 0).sum()))
        assert set(np.nonzero(current < 0)[0]) <= set(np.nonzero(result != current)[0])
    assert sum(moves) < 0.7 * sum(fresh), (moves, fresh, mandatory)


@examples(60)
@given(st.integers(0, 10_000), st.integers(2, 10), st.integers(2, 5), st.sampled_from([np.inf, 200.0]))
def test_keeps_memory_and_support_and_is_within_the_limit(
    seed: int, models: int, devices: int, capacity: float
) -> None:
    try:
        problem, current, reference = lose(instance(models, devices, seed, capacity), "d1")
    except NoPlacementError:
        return
    result = replan(problem, current, reference)
    assert objective.breaches(problem, objective.shares_of(problem, result)) == []
    assert objective.cycle(problem, result) <= objective.cycle(problem, reference) * TOLERANCE * (1 + 1e-9)
    assert int((result != current).sum()) <= int((reference != current).sum())


def test_a_small_drift_moves_nothing() -> None:
    whole = instance(12, 4, 5)
    current = assignment_rows(whole, solve(whole, "mfs").shares)
    drifted = whole.replace(fps=whole.fps * np.random.default_rng(0).uniform(0.995, 1.005, whole.fps.shape))
    reference = assignment_rows(drifted, solve(drifted, "mfs").shares)
    assert (replan(Problem.of(drifted), current, reference) == current).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_site_is_replanned_soon(seed: int) -> None:
    """The bar is one second; the deadline here is generous, the figure is in docs/benchmarks.md."""
    problem, current, reference = lose(instance(100, 20, seed), "d3")
    begin = time.monotonic()
    replan(problem, current, reference)
    assert time.monotonic() - begin < 20 * PATIENCE


@examples(40)
@given(st.integers(0, 10_000), st.integers(4, 20), st.integers(3, 6), st.sampled_from([np.inf, 250.0]))
def test_a_change_in_haste_moves_what_must_move_and_keeps_memory_and_support(
    seed: int, models: int, devices: int, capacity: float
) -> None:
    try:
        problem, current, reference = lose(instance(models, devices, seed, capacity), "d1")
    except NoPlacementError:
        return
    limit = objective.cycle(problem, reference) * 1.1
    few = change(problem, current, 0.0, 0)
    if few is None:
        return  # it fits nowhere unless others move
    assert objective.breaches(problem, objective.shares_of(problem, few)) == []
    assert (few[current >= 0] == current[current >= 0]).all()
    more = change(problem, current, limit, 2 * devices)
    assert more is not None
    assert objective.breaches(problem, objective.shares_of(problem, more)) == []
    assert objective.cycle(problem, more) <= max(limit, objective.cycle(problem, few)) * (1 + 1e-9)


def test_who_gives_way_is_as_in_the_reference() -> None:
    """Groups of one node each on devices of 30 and 20 FPS: the third is new, and must not starve beside the first."""
    names = ("first/n", "second/n", "third/n")
    three = Instance(
        names, ("a", "b"), np.tile([30.0, 20.0], (3, 1)), groups={n: n.split("/")[0] for n in names},
        targets={"first": 35.0, "second": 20.0, "third": 20.0}, priorities={"first": 1},
    )  # fmt: skip
    problem = Problem.of(three)
    reference = assignment_rows(three, solve(three, "optimal", time_limit_s=20.0).shares)
    assert reference.tolist() == [0, 1, 1]
    assert replan(problem, np.array([0, 1, -1]), reference).tolist() == [0, 1, 0]  # its cycle is the shorter one
    assert near(three, problem, np.array([0, 1, -1]), reference).tolist() == [0, 1, 1]


def test_nodes_go_back_while_no_group_loses_by_it() -> None:
    """The reference has swapped two equal devices; only what must move does."""
    names = ("first/n", "first/m", "last/n")
    three = Instance(
        names, ("a", "b"), np.full((3, 2), 30.0), groups={n: n.split("/")[0] for n in names},
        targets={"first": 40.0, "last": 40.0}, priorities={"first": 1},
    )  # fmt: skip
    found = near(three, Problem.of(three), np.array([0, 0, -1]), np.array([0, 1, 0]))
    assert found.tolist() == [0, 1, 0]
