"""The best placement of whole nodes, with a proof of how good it is; anytime.

1. Few models: exact, by dynamic programming over subsets (:mod:`subsets`).
2. Otherwise the best of the heuristics, improved (:mod:`rounding`, :mod:`local_search`), against a bound from device
   prices (:mod:`prices`). The bound is sharpened by the deadline filter of Lenstra, Shmoys and Tardos (1990): in a
   placement shorter than T no pair costs T or more, so OPT ≥ min(T, bound over pairs that cost less than T), and the
   incumbent is such a T.
3. What is open then goes to HiGHS (:mod:`milp`), for sizes at which it has a chance, with the incumbent as its limit.

Problems with links or count-dependent slowdown beyond the reach of 1 get the best heuristic, with the bound of the
problem without them, which is valid because both only make a cycle longer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hams_scheduler.clock import Budget
from hams_scheduler.objective import cycle
from hams_scheduler.placement import Answer
from hams_scheduler.problem import IntArray, Problem
from hams_scheduler.strategies import hfs, mfs, milp, packing, paper, subsets
from hams_scheduler.strategies.local_search import improve
from hams_scheduler.strategies.prices import Prices, sweep, value
from hams_scheduler.strategies.rounding import rounded

CLOSE = 1e-9
"""A relative gap that counts as proven."""
MILP_PAIRS = 4000
"""Largest M×D that is handed to HiGHS."""
VAIN = 300
"""Neighbourhoods without success before the search is left to HiGHS."""


def optimal(problem: Problem, budget: Budget) -> Answer:
    """Return the best placement found within the budget, and a proven bound."""
    if problem.one_per_device:
        return paper.optimal(problem, budget)
    if problem.links is None and problem.shape[0] <= subsets.MOST_MODELS - 1:
        return _exact(problem)
    assign, prices = best_heuristic(problem, budget)
    if not problem.plain:
        return Answer.of(problem, assign, prices.bound, optimal=_closed(problem, assign, prices.bound))
    return _search(problem, budget, assign, prices)


def _exact(problem: Problem) -> Answer:
    columns = problem.shape[1]
    memory = problem.memory if problem.tight else None
    table = subsets.loads(problem.cost, memory, problem.capacity + 1e-6, np.zeros(columns), problem.slowdown)
    length, assign = subsets.solve(table)
    if not np.isfinite(length):
        assign = packing.feasible_start(problem)  # raises, naming the models
    return Answer.of(problem, assign, cycle(problem, assign), optimal=True)


def best_heuristic(problem: Problem, budget: Budget) -> tuple[IntArray, Prices]:
    """Return the best of MFS, HFS and everything on one device, and the prices that bound it."""
    prices = sweep(problem, budget.part(budget.seconds * 0.3), 60)
    found = [mfs.place(problem), hfs.place(problem, prices.bound), mfs.single(problem)]
    placed = [assign for assign in found if assign is not None]
    if not placed:
        placed = [packing.feasible_start(problem)]
    return min(placed, key=lambda assign: cycle(problem, assign)), prices


def _search(problem: Problem, budget: Budget, assign: IntArray, prices: Prices) -> Answer:
    small = problem.shape[0] * problem.shape[1] <= MILP_PAIRS
    if not small:
        guided = rounded(problem, prices, budget)
        if guided is not None and cycle(problem, guided) < cycle(problem, assign):
            assign = guided
    bound = prices.bound
    assign = improve(problem, assign, budget.part(budget.left() * (0.3 if small else 0.85)), bound, VAIN)
    bound = max(bound, filtered_bound(problem, cycle(problem, assign), prices, budget))
    if small and not _closed(problem, assign, bound):
        found = milp.shortest_cycle(problem, cycle(problem, assign), bound, budget.left())
        if found.assign is not None and cycle(problem, found.assign) < cycle(problem, assign):
            assign = found.assign
        bound = max(bound, min(found.bound, cycle(problem, assign)))
        if found.proven:
            return Answer.of(problem, assign, cycle(problem, assign), optimal=True)
    if not small and not budget.over():
        assign = improve(problem, assign, budget, bound, 10**9)
    return Answer.of(problem, assign, bound, optimal=_closed(problem, assign, bound))


def filtered_bound(problem: Problem, incumbent: float, prices: Prices, budget: Budget) -> float:
    """Return min(T, the price bound over pairs that cost less than T), with T the incumbent's cycle.

    A pair that costs T or more is in no placement shorter than T, so either nothing is shorter than T, or the bound of
    the problem without such pairs holds.
    """
    allowed = problem.cost < incumbent * (1 - 1e-12)
    if not allowed.any(axis=1).all():
        return incumbent
    filtered = replace(problem, cost=np.where(allowed, problem.cost, np.inf))
    again = sweep(filtered, budget.part(budget.left() * 0.3), 60, Prices(prices.pi, prices.mu, 0.0))
    return min(incumbent, max(again.bound, value(filtered, prices.pi, prices.mu)))


def _closed(problem: Problem, assign: IntArray, bound: float) -> bool:
    return cycle(problem, assign) <= bound * (1 + CLOSE)
