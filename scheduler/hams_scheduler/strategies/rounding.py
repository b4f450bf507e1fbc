"""From device prices to a whole placement, for instances too large for exact search.

At the optimal prices of the placement LP all but a few models are cheapest on one device (a vertex of the LP splits
at most D - 1 models; Lenstra, Shmoys and Tardos 1990). Rounding gives models, largest first, to the device where they
pay least among those that still have room below a limit on the cycle; the limit is searched.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.clock import Budget
from hams_scheduler.problem import SLACK_MIB, IntArray, Problem
from hams_scheduler.strategies.prices import Prices, priced

LIMITS = (1.0, 1.003, 1.008, 1.02, 1.05)
"""Limits tried, times the bound."""


def rounded(problem: Problem, prices: Prices, budget: Budget) -> IntArray | None:
    """Return the best of the placements that the limits give, or None when memory stops them all."""
    order = np.argsort(-problem.cost.min(axis=1), kind="stable")
    paid = priced(problem, prices.pi, prices.mu)
    best: IntArray | None = None
    least = np.inf
    for limit in LIMITS:
        assign, cycle = _fill(problem, order, paid, prices.bound * limit)
        if assign is not None and cycle < least:
            best, least = assign, cycle
        if budget.over():
            break
    return best


def _fill(problem: Problem, order: IntArray, paid: np.ndarray, limit: float) -> tuple[IntArray | None, float]:
    rows, columns = problem.shape
    assign = np.empty(rows, dtype=np.int64)
    loads = np.zeros(columns)
    room = problem.capacity + SLACK_MIB
    tight = problem.tight
    for row in order:
        own = loads + problem.cost[row]
        wish = np.where(own <= limit, paid[row], np.inf)
        if tight:
            fits = problem.memory[row] <= room
            wish = np.where(fits, wish, np.inf)
            own = np.where(fits, own, np.inf)
        column = int(wish.argmin())
        if not np.isfinite(wish[column]):
            column = int(own.argmin())
            if not np.isfinite(own[column]):
                return None, np.inf
        assign[row] = column
        loads[column] = own[column]
        if tight:
            room[column] -= problem.memory[row, column]
    return assign, float(loads.max())
