"""What cannot be in a placement shorter than T: deadline filter and reduced costs.

A placement with a cycle below T uses no pair that costs T or more (Lenstra, Shmoys and Tardos 1990), hence
`OPT ≥ min(T, LP over the pairs with P < T)` for every T. And forcing a model onto a device raises the bound that prices
prove by its reduced cost over `sum pi`; a pair for which that reaches T is in no placement below T either. What is left
is a problem in which the incumbent itself may be impossible: a search of it must be given its value T.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hams_scheduler.solver.instance import Problem
from hams_scheduler.solver.strategies import lp
from hams_scheduler.solver.strategies.prices import Prices, priced, value
from hams_scheduler.solver.time_budget import Budget

ROUNDS = 10
"""Most deadlines tried for the bound."""


@dataclass(frozen=True, eq=False)
class Filtered:
    """`problem` without pairs that no placement shorter than T has; `bound` a proven cycle, at most T (seconds).

    `prices` prove their `bound` only for placements shorter than T. `empty`: there is no such placement.
    """

    problem: Problem
    bound: float
    prices: Prices

    @property
    def empty(self) -> bool:
        """Whether some model has no pair left."""
        return not np.isfinite(self.problem.cost).any(axis=1).all()


def below(problem: Problem, limit: float) -> Problem:
    """Return the problem without the pairs that alone take `limit` seconds or more."""
    return replace(problem, cost=np.where(problem.cost < limit * (1 - 1e-12), problem.cost, np.inf))


def without_expensive(problem: Problem, prices: Prices, limit: float) -> Problem:
    """Return the problem without the pairs whose reduced cost lifts the bound of `prices` to `limit` seconds."""
    total = float(prices.pi.sum())
    if total <= 0:
        return problem
    paid = priced(problem, prices.pi, prices.mu)
    least = paid.min(axis=1, keepdims=True)
    if not np.isfinite(least).all():
        return problem
    required = value(problem, prices.pi, prices.mu) + (paid - least) / total
    return replace(problem, cost=np.where(required < limit * (1 + 1e-9), problem.cost, np.inf))


def filtered(
    problem: Problem, incumbent: float, prices: Prices, bound: float, budget: Budget, rounds: int = ROUNDS
) -> Filtered:
    """Return what may still be in a placement with a cycle below `incumbent` seconds, and the sharpened `bound`.

    At most so many `rounds` of deadlines are tried.
    """
    fewer = below(without_expensive(problem, prices, incumbent), incumbent)
    found = _relaxed(fewer, budget)
    if found is not None:
        bound = max(bound, min(incumbent, found.bound))
        fewer = without_expensive(fewer, found, incumbent)
    bound = _bisected(problem, bound, incumbent, budget, rounds)
    result = Filtered(fewer, bound, prices if found is None else found)
    return replace(result, bound=incumbent) if result.empty else result


def _bisected(problem: Problem, low: float, incumbent: float, budget: Budget, rounds: int) -> float:
    """Raise the proven cycle `low` by trying deadlines between it and `incumbent`."""
    high = incumbent
    for _ in range(rounds):
        if high - low <= 1e-4 * incumbent or budget.over():
            break
        limit = (low + high) / 2
        fewer = below(problem, limit)
        if np.isfinite(fewer.cost).any(axis=1).all():
            found = _relaxed(fewer, budget)
            if found is None:
                break
            low, high = max(low, min(limit, found.bound)), limit if found.bound < limit else high
        else:
            low = limit
    return low


def _relaxed(problem: Problem, budget: Budget) -> Prices | None:
    """Return the prices of the LP over all pairs left, None when it is infeasible or out of time."""
    allowed = np.isfinite(problem.cost)
    if not allowed.any(axis=1).all():
        return None
    found = lp.solve(problem, allowed, budget.left())
    return None if found is None else Prices(found.pi, found.mu, value(problem, found.pi, found.mu))
