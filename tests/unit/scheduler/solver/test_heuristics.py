"""The paper's steps in MFS and HFS, one by one, and the chains that polish their placements."""

from __future__ import annotations

import numpy as np
import pytest

from hams_scheduler.solver.instance import Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.strategies import hfs, mfs, paper
from hams_scheduler.solver.strategies.filling import Filling
from hams_scheduler.solver.strategies.local_search import descend
from hams_scheduler.solver.time_budget import Budget


def problem(cost: list[list[float]], memory: float = 0.0, capacity: float = np.inf) -> Problem:
    table = np.array(cost)
    rows, columns = table.shape
    names = tuple("abcdefgh"[:rows]), tuple("xyz"[:columns])
    return Problem(*names, table, np.full((rows, columns), memory), np.full(columns, capacity))


def test_the_worst_case_model_is_the_one_whose_best_device_is_slowest() -> None:
    filling = Filling(problem([[1.0, 9.0], [4.0, 5.0], [3.0, 8.0]]))
    alone, _, regret, _ = mfs.WORST_CASES
    assert mfs.query_worst_case_model(filling, alone) == 1
    assert mfs.query_worst_case_model(filling, regret) == 0
    for model, device in ((1, 0), (0, 1), (2, 0)):
        filling.put(model, device)
    assert mfs.query_worst_case_model(filling, alone) is None


def test_a_model_with_one_device_left_goes_first() -> None:
    for worst_case in mfs.WORST_CASES:
        assert mfs.query_worst_case_model(Filling(problem([[9.0, 8.0], [1.0, np.inf]])), worst_case) == 1


@pytest.mark.parametrize(("taken", "device"), [(0, 1), (1, 0)])
def test_the_device_that_suits_a_model_is_where_the_cycle_grows_least(taken: int, device: int) -> None:
    filling = Filling(problem([[2.0, 2.0], [2.0, 2.5]]))
    filling.put(0, taken)
    assert mfs.query_model(filling, 1) == device


def test_no_device_suits_a_model_without_room() -> None:
    filling = Filling(problem([[1.0], [1.0]], memory=6.0, capacity=10.0))
    filling.put(0, 0)
    assert mfs.query_model(filling, 1) is None


def test_the_worst_case_device_is_the_slowest_that_waits() -> None:
    speed = np.array([0.5, 0.2, 0.9])
    assert hfs.query_worst_case_device(speed, np.arange(3)) == 1
    assert hfs.query_worst_case_device(-speed, np.array([0, 1])) == 0


def test_the_models_that_suit_a_device_lose_least_there() -> None:
    """Model 3 cannot run there; no later device takes model 2."""
    cost = np.array([2.0, 3.0, 9.0, np.inf])
    assert hfs.query_device(cost, cost, np.array([1.0, 3.0, np.inf, 1.0])).tolist() == [2, 1, 0]


def test_with_one_model_per_device_the_steps_are_the_papers() -> None:
    table = problem([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]])
    assert paper.query_worst_case_model(table, np.arange(2)) == 1
    assert paper.query_model(table, 1, np.array([1, 2])) == 1
    assert paper.query_model(table, 1, np.arange(0)) is None
    assert paper.query_worst_case_device(table, np.arange(3)) == 0
    assert paper.query_device(table, 0, np.arange(2)) == 1


def test_a_chain_moves_two_models_where_no_move_or_swap_helps() -> None:
    """x has a and b, y has c: b fits onto y only when c leaves it for z."""
    table = problem([[4.0, np.inf, np.inf], [4.0, 4.0, np.inf], [np.inf, 5.0, 6.0]])
    start = np.array([0, 0, 1])
    assert cycle(table, start) == 8.0
    assert descend(table, start, Budget.start(np.inf)).tolist() == [0, 1, 2]
