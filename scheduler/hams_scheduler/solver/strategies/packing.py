"""Memory: whether any placement fits, and one that does.

Packing models of several sizes into devices is NP-complete, so a greedy pass comes first and an exact search after.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, IntArray, NoPlacementError, Problem


def fits(problem: Problem, assign: IntArray) -> bool:
    """Whether an assignment (M rows, all placed) keeps support and memory."""
    index = np.arange(len(assign))
    if not np.isfinite(problem.cost[index, assign]).all():
        return False
    held = np.bincount(assign, weights=problem.memory[index, assign], minlength=problem.shape[1])
    return bool((held <= problem.capacity + SLACK_MIB).all())


def feasible_start(problem: Problem) -> IntArray:
    """Return some assignment that keeps support and memory.

    Largest first into the fullest device that it fits, or the emptiest; where that fails, HiGHS decides. Raises
    NoPlacementError naming the models left over.
    """
    left = _greedy(problem)
    if isinstance(left, np.ndarray):
        return left
    from hams_scheduler.solver.strategies import milp

    found: IntArray | None = milp.pack(problem)
    if found is None:
        names = [problem.models[row] for row in left]
        raise NoPlacementError(
            f"the models do not fit into the devices' memory together: nothing is left for {', '.join(names)}",
            models=names,
            reasons=dict.fromkeys(names, "no device has enough memory left for it"),
        )
    return found


def _greedy(problem: Problem) -> IntArray | list[int]:
    """Return an assignment, or the rows that no order tried could place."""
    choice = np.isfinite(problem.cost)
    need = np.where(choice, problem.memory, np.inf).min(axis=1)
    few = choice.sum(axis=1)
    fewest: list[int] = []
    for order in (np.lexsort((few, -need)), np.lexsort((-need, few))):
        for fullest in (True, False):
            room = problem.capacity.copy()
            assign = np.full(len(order), -1, dtype=np.int64)
            failed = []
            for row in order:
                fit = np.nonzero(choice[row] & (problem.memory[row] <= room + SLACK_MIB))[0]
                if not fit.size:
                    failed.append(int(row))
                    continue
                after = room[fit] - problem.memory[row, fit]
                column = fit[after.argmin() if fullest else after.argmax()]
                assign[row] = column
                room[column] -= problem.memory[row, column]
            if not failed:
                return assign
            if not fewest or len(failed) < len(fewest):
                fewest = failed
    return sorted(fewest)
