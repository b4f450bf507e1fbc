"""Levelling keeps what a placement must keep, shortens it, and finds few moves after a loss."""

from __future__ import annotations

import itertools

import numpy as np
from benchmarks.scheduling.generate import generate
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.solver.instance import NoPlacementError, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.replan import TOLERANCE, replan
from hams_scheduler.solver.strategies import packing
from hams_scheduler.solver.strategies.levelling import Levelling
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget
from support.examples import examples

problems = st.builds(
    lambda models, devices, seed, memory: Problem.of(generate(models, devices, seed, memory=memory, unsupported=0.2)),
    st.integers(4, 40),
    st.integers(2, 6),
    st.integers(0, 10**6),
    st.sampled_from(["none", 1.2, 1.8]),
)


def steps(count: int) -> Budget:
    """A budget of so many looks at the clock."""
    return Budget.start(count, iter(range(10**9)).__next__)


def levelled(problem: Problem, start: np.ndarray, count: int) -> np.ndarray:
    prices = sweep(problem, Budget.start(np.inf, lambda: 0.0), 60)
    return Levelling.at(problem, start, prices).run(prices.bound, steps(count))


@examples(40)
@given(problems)
def test_a_levelled_placement_fits_and_is_no_longer(problem: Problem) -> None:
    try:
        start = packing.feasible_start(problem)
    except NoPlacementError:
        return
    found = levelled(problem, start, 100)
    assert packing.fits(problem, found)
    assert cycle(problem, found) <= cycle(problem, start) * (1 + 1e-9)


@examples(40)
@given(problems, st.integers(0, 5))
def test_a_step_keeps_the_sums_right(problem: Problem, device: int) -> None:
    try:
        start = packing.feasible_start(problem)
    except NoPlacementError:
        return
    prices = sweep(problem, Budget.start(np.inf, lambda: 0.0), 60)
    search = Levelling.at(problem, start, prices)
    aim, weight = prices.bound * 1.1, search.pi * 2.0

    def penalised() -> float:
        return float(search.paid.sum() + (weight * np.maximum(0.0, search.loads - aim)).sum())

    before = penalised()
    moved = search.waste_less(device % problem.shape[1], aim, weight)
    fresh = Levelling.at(problem, search.assign, prices)
    np.testing.assert_allclose(search.loads, fresh.loads, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(search.paid, fresh.paid)
    np.testing.assert_allclose(search.room, fresh.room, rtol=1e-9, atol=1e-6)
    assert (penalised() < before) == moved


def test_a_large_placement_comes_near_the_bound() -> None:
    problem = Problem.of(generate(300, 12, 1))
    prices = sweep(problem, Budget.start(np.inf, lambda: 0.0), 60)
    start = packing.feasible_start(problem)
    assert cycle(problem, start) > 2 * prices.bound
    assert cycle(problem, levelled(problem, start, 3000)) < 1.03 * prices.bound


def lengths(problem: Problem, every: np.ndarray) -> np.ndarray:
    """The cycles of N placements (N×M device rows), s."""
    rows, columns = problem.shape
    own = problem.cost[np.arange(rows), every]
    return np.max([(own * (every == column)).sum(axis=1) for column in range(columns)], axis=0)


def test_few_nodes_move_after_a_loss() -> None:
    moved, fewest = 0, 0
    for seed in range(12):
        instance = generate(7, 4, seed, memory="none", unsupported=0.0)
        every = np.array(list(itertools.product(range(4), repeat=7)))
        current = every[lengths(Problem.of(instance), every).argmin()]
        stays = np.where(current == 3, -1, current)
        kept = {"devices": instance.devices[:3], "fps": instance.fps[:, :3], "capacity_mib": instance.capacity_mib[:3]}
        problem = Problem.of(instance.replace(**kept))
        every = every[(every < 3).all(axis=1)]
        cycles = lengths(problem, every)
        within = every[cycles <= cycles.min() * TOLERANCE]
        moved += int((replan(problem, stays, every[cycles.argmin()]) != stays).sum())
        fewest += int((within != stays).sum(axis=1).min())
    assert fewest <= moved <= 1.1 * fewest
