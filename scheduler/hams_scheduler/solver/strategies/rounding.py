"""From the placement LP to a whole placement, for instances too large for exact search.

A vertex of the LP leaves all but a few models whole (Lenstra, Shmoys and Tardos 1990). Rounding goes in stages, the
largest models first (:func:`rounded`): each stage solves the LP for the models left, on top of what the devices already
carry, over the pairs that the device prices leave (:func:`lp.pruned`), and fixes the largest of them; a split one goes
where most of it is and it fits. So the smallest models are rounded last, when nothing evens out their rounding.
Where there is no time for that, :func:`filled` uses the device prices alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies import deadline, lp
from hams_scheduler.solver.strategies.prices import Prices, priced
from hams_scheduler.solver.time_budget import Budget

STAGES = {
    12: (0.03, 0.06, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    7: (0.05, 0.12, 0.25, 0.45, 0.65, 0.85, 1.0),
    3: (0.12, 0.4, 1.0),
}
"""Parts of all models that are fixed after each stage, by number of stages."""
LP_S_PER_PAIR = {5: 2.5e-6, 3: 1.5e-6, 2: 6e-7}
"""About how long an LP takes per pair of the whole problem, s, by how many devices per model it keeps."""
WAYS = ((5, 12), (3, 12), (3, 7), (2, 12), (2, 7), (2, 3))
"""Devices kept per model and stages, the best way first."""
PART = 0.35
"""The part of the time left that rounding may take."""
SCARCE = (0.3, 1.0)
"""What memory counts beside time in the order of models; where models find no room, more."""
DEADLINE = 1.05
"""A pair that alone takes more than so many bounds is left out."""
WHOLE = 1 - 1e-6
"""A larger share is all of a model."""


def rounded(problem: Problem, prices: Prices, budget: Budget) -> IntArray | None:
    """Return a placement, or None when memory or time stops it."""
    time = budget.left() * PART / problem.cost.size
    way = next(((kept, count) for kept, count in WAYS if count * LP_S_PER_PAIR[kept] <= time), None)
    if way is None:
        return None
    for scarce in SCARCE:
        found = _staged(problem, prices, way[0], STAGES[way[1]], scarce, budget)
        if found is not None or budget.left() < time * problem.cost.size:
            return found
    return None


def _staged(
    problem: Problem, prices: Prices, kept: int, stages: tuple[float, ...], scarce: float, budget: Budget
) -> IntArray | None:
    rows, columns = problem.shape
    allowed = lp.pruned(deadline.below(problem, prices.bound * DEADLINE), prices, kept)
    order = np.argsort(-_sizes(problem, prices.bound, scarce), kind="stable")
    assign: IntArray = np.full(rows, -1, dtype=np.int64)
    loads, room = np.zeros(columns), problem.capacity + SLACK_MIB
    done = 0
    for part in stages:
        left, last = order[done:], max(done + 1, round(part * rows))
        rest = replace(problem, models=(), cost=problem.cost[left], memory=problem.memory[left])
        found = lp.solve(rest, allowed[left], budget.left(), loads, room)
        if found is None:
            return None
        fixed = left[: last - done]
        whole = found.shares[: last - done].max(axis=1) > WHOLE
        turn = np.concatenate([np.nonzero(whole)[0], np.nonzero(~whole)[0]])
        for spot in turn:
            row = int(fixed[spot])
            column = _column(problem, row, found.shares[spot], loads, room, found.cycle)
            if column is None:
                return None
            assign[row] = column
            loads[column] += problem.cost[row, column]
            room[column] -= problem.memory[row, column]
        done = last
        if done >= rows:
            break
    return assign


def _sizes(problem: Problem, bound: float, scarce: float) -> FloatArray:
    """Return M: the part of a cycle of `bound` seconds that a model takes at best, or `scarce` × that of a memory."""
    time = problem.cost.min(axis=1) / max(bound, 1e-300)
    if problem.tight:
        time = np.maximum(time, scarce * (problem.memory / np.maximum(problem.capacity, 1e-9)).min(axis=1))
    return np.asarray(time, dtype=np.float64)


def filled(problem: Problem, prices: Prices, limit: float) -> IntArray | None:
    """Return a placement from prices alone, or None when memory stops it.

    The largest models first, each where it pays least among the devices that it keeps within `limit` seconds, else
    where it adds least.
    """
    rows, columns = problem.shape
    paid = priced(problem, prices.pi, prices.mu)
    assign: IntArray = np.empty(rows, dtype=np.int64)
    loads, room, tight = np.zeros(columns), problem.capacity + SLACK_MIB, problem.tight
    for row in np.argsort(-problem.cost.min(axis=1), kind="stable"):
        own = loads + problem.cost[row]
        if tight:
            own = np.where(problem.memory[row] <= room, own, np.inf)
        wish = np.where(own <= limit, paid[row], np.inf)
        column = int(wish.argmin())
        if not np.isfinite(wish[column]):
            column = int(own.argmin())
            if not np.isfinite(own[column]):
                return None
        assign[row] = column
        loads[column] = own[column]
        room[column] -= problem.memory[row, column]
    return assign


def _column(
    problem: Problem, row: int, shares: FloatArray, loads: FloatArray, room: FloatArray, limit: float
) -> int | None:
    """Where a model goes: where all of it is; else where most of it is and it fits; else where it adds least."""
    column = int(shares.argmax())
    if shares[column] > WHOLE and problem.memory[row, column] <= room[column]:
        return column
    own = np.where(problem.memory[row] <= room, loads + problem.cost[row], np.inf)
    wish = np.where((own <= limit) & (shares > 0), shares, 0.0)
    if wish.max() > 0:
        return int(wish.argmax())
    column = int(own.argmin())
    return column if np.isfinite(own[column]) else None
