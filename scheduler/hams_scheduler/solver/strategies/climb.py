"""Hill climbing by moves and swaps under any score, for what a table of costs does not hold.

Links, hosts' cores, count-dependent slowdown and the order in which groups are served are not in a table of costs.
Here :mod:`objective` scores every placement in full, which is slow but exact. The start is a placement of the fast
searches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, IntArray, Problem
from hams_scheduler.solver.time_budget import Budget

Score = Callable[[IntArray], tuple[float, ...]]
"""Of an assignment (M device rows); the larger tuple is better."""


def climb(problem: Problem, assign: IntArray, score: Score, budget: Budget, steps: float = float("inf")) -> IntArray:
    """Return an assignment that no single move or swap betters, or the best after `steps` or when the budget ends."""
    now = score(assign)
    found = True
    while found and steps > 0:
        found, steps = False, steps - 1
        for candidate in _neighbours(problem, assign):
            if budget.over():
                return assign
            then = score(candidate)
            if then > now:
                assign, now, found = candidate, then, True
                break
    return assign


def _neighbours(problem: Problem, assign: IntArray) -> Iterator[IntArray]:
    """Yield every placement one move, then one swap away that keeps support and memory."""
    rows, columns = problem.shape
    index = np.arange(rows)
    held = np.bincount(assign, weights=problem.memory[index, assign], minlength=columns)
    room = problem.capacity + SLACK_MIB - held
    for row in range(rows):
        for column in np.nonzero(np.isfinite(problem.cost[row]) & (problem.memory[row] <= room))[0]:
            if column != assign[row]:
                moved = assign.copy()
                moved[row] = column
                yield moved
    for one in range(rows):
        for other in range(one + 1, rows):
            a, b = assign[one], assign[other]
            if a == b or not np.isfinite(problem.cost[one, b]) or not np.isfinite(problem.cost[other, a]):
                continue
            gained = problem.memory[one, a] - problem.memory[other, a]
            lost = problem.memory[other, b] - problem.memory[one, b]
            if gained + room[a] < 0 or lost + room[b] < 0:
                continue
            swapped = assign.copy()
            swapped[one], swapped[other] = b, a
            yield swapped
