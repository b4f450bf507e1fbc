"""Sets of models per device, listed and joined, give the best placement, or prove that there is no better one."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.scheduling.generate import generate
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.solver.instance import Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.strategies import packing, partition, subsets
from hams_scheduler.solver.strategies.multipliers import Knapsacks, better_worths, priced_worths
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget
from support.examples import examples

ENDLESS = Budget.start(np.inf, lambda: 0.0)

problems = st.builds(
    lambda models, devices, seed, memory, twins: Problem.of(
        generate(models, devices, seed, memory=memory, unsupported=0.2, twins=twins)
    ),
    st.integers(4, 11),
    st.integers(2, 5),
    st.integers(0, 10**6),
    st.sampled_from(["none", 1.05, 1.25, 1.8]),
    st.booleans(),
)


def shortest(problem: Problem) -> float:
    """By dynamic programming over subsets."""
    room = problem.capacity + 1e-6
    return subsets.solve(subsets.loads(problem.cost, problem.memory, room, np.zeros(problem.shape[1])))[0]


@examples(60)
@given(problems, st.sampled_from([1.0, 1.1, 1.4]))
def test_it_finds_the_best_or_proves_that_there_is_no_better(problem: Problem, above: float) -> None:
    best, prices = shortest(problem), sweep(problem, ENDLESS)
    found = partition.shortest_cycle(problem, best * above, prices.bound, prices, prices, ENDLESS)
    assert found.bound <= best * (1 + 1e-9)
    if found.assign is not None:
        assert packing.fits(problem, found.assign)
        assert cycle(problem, found.assign) == pytest.approx(best, rel=2e-6)
    elif found.proven:
        assert above == 1.0


@examples(40)
@given(problems, st.floats(1.0, 1.5))
def test_worths_call_no_possible_cycle_impossible(problem: Problem, above: float) -> None:
    limit, prices = shortest(problem) * above, sweep(problem, ENDLESS)
    assert not better_worths(problem, limit * (1 + 1e-9), priced_worths(problem, prices), 40, ENDLESS).impossible


def test_worths_prove_what_the_linear_program_does_not() -> None:
    """Three models of 2 s each on two devices: 3 s when shared, 4 s when whole."""
    two = Problem(("a", "b", "c"), ("x", "y"), np.full((3, 2), 2.0), np.zeros((3, 2)), np.full(2, np.inf))
    prices = sweep(two, ENDLESS)
    assert prices.bound == pytest.approx(3.0)
    assert better_worths(two, 3.9, priced_worths(two, prices), 40, ENDLESS).impossible
    assert not better_worths(two, 4.0, priced_worths(two, prices), 40, ENDLESS).impossible


def test_the_best_set_of_a_device_is_worth_most_within_the_time() -> None:
    cost = np.array([[3.0], [2.0], [2.0], [9.0]])
    problem = Problem(("a", "b", "c", "d"), ("x",), cost, np.zeros((4, 1)), np.full(1, np.inf))
    best, inside = Knapsacks(problem, 4.0, 1000).best(np.array([[5.0], [3.0], [3.0], [99.0]]))
    assert best.tolist() == [6.0]
    assert inside[:, 0].tolist() == [False, True, True, False]
