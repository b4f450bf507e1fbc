"""The best placement of whole nodes, with a proof of how good it is; anytime.

1. Few models: exact, by dynamic programming over subsets (:mod:`subsets`).
2. Otherwise the best of the heuristics (up to `HEURISTIC_PAIRS`), of filling by prices and of the rounded LP
   (:mod:`rounding`), improved (:mod:`levelling` beyond some sixty models, :mod:`local_search` up to `MILP_PAIRS`),
   against a bound from device prices (:mod:`prices`). The bound is sharpened by the deadline filter of Lenstra, Shmoys
   and Tardos (1990): in a placement shorter than T no pair costs T or more, so OPT ≥ min(T, bound over pairs that cost
   less than T), and the incumbent is such a T.
3. Up to some sixty models, sets of models per device are listed and joined, which is exact (:mod:`partition`).
4. What is open then goes to HiGHS (:mod:`milp`), or CP-SAT where it is installed (:mod:`cpsat`), for sizes at which
   they have a chance, with the incumbent as their limit.

Problems with links, hosts' cores or count-dependent slowdown are solved without them first: all three only make a
cycle longer, so that bound is valid, and a placement that reaches it is the best. Else few placements are enumerated;
more are climbed (:mod:`climb`). Where only hosts' cores count, HiGHS follows, with a row per host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, IntArray, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import cpsat, hfs, lp, mfs, milp, packing, paper, partition, subsets
from hams_scheduler.solver.strategies.deadline import ROUNDS, Filtered, below, filtered
from hams_scheduler.solver.strategies.levelling import Levelling
from hams_scheduler.solver.strategies.local_search import climb, descend, improve
from hams_scheduler.solver.strategies.milp import MilpResult
from hams_scheduler.solver.strategies.prices import Prices, sweep, value
from hams_scheduler.solver.strategies.rounding import filled, rounded
from hams_scheduler.solver.time_budget import Budget

CLOSE = 1e-6
"""A relative gap that counts as proven: that of HiGHS and CP-SAT."""
ENUMERATED = 20_000
"""Most placements, D^M, of which each is looked at where hosts' cores count."""
MILP_PAIRS = 4000
"""Largest M×D that is handed to HiGHS."""
HEURISTIC_PAIRS = 20_000
"""Largest M×D on which MFS and HFS are starts; beyond, filling by prices and rounding the LP are faster and better."""
FILLS = (1.006, 1.02)
"""Limits for filling by prices, times the bound."""
VAIN, VAIN_AGAIN = 60, 600
"""Neighbourhoods without success before sets of models are joined, at first and once more."""
SEARCH_PART, LONG_SEARCH_PART, FILTER_PART, SETS_PART = 0.3, 0.7, 0.2, 0.75
"""Of the time left, what each search (without sets: the only one), each filter, and joining sets may take."""
LEVELLED_PART = 0.25
"""Of a search without sets, what levelling takes."""
VAIN_LARGE = 5000
"""Neighbourhoods without success before a search without HiGHS ends."""


def optimal(problem: Problem, budget: Budget) -> Answer:
    """Return the best placement found within the budget, and a proven bound."""
    if problem.one_per_device:
        return paper.optimal(problem, budget)
    if problem.links is None and problem.hosts is None and problem.shape[0] <= subsets.MOST_MODELS - 1:
        return _exact(problem)
    if problem.links is None and problem.hosts is not None and problem.shape[1] ** problem.shape[0] <= ENUMERATED:
        return _enumerated(problem)
    prices = sweep(problem, budget.part(budget.seconds * 0.3), 60)
    if problem.plain and problem.cost.size > HEURISTIC_PAIRS:
        return _large(problem, budget, prices)
    assign = best_heuristic(problem, prices)
    if not problem.plain:
        return _climbed(problem, budget, assign, prices)
    search = _medium if problem.cost.size <= MILP_PAIRS else _large
    return search(problem, budget, prices, assign)


def _exact(problem: Problem) -> Answer:
    columns = problem.shape[1]
    memory = problem.memory if problem.tight else None
    table = subsets.loads(problem.cost, memory, problem.capacity + 1e-6, np.zeros(columns), problem.slowdown)
    length, assign = subsets.solve(table)
    if not np.isfinite(length):
        assign = packing.feasible_start(problem)  # raises, naming the models
    return Answer.of(problem, assign, cycle(problem, assign), optimal=True)


def _enumerated(problem: Problem) -> Answer:
    """The best of all placements, where these are few: exact with count-dependent slowdown and hosts' cores."""
    rows, columns = problem.shape
    every = np.indices((columns,) * rows).reshape(rows, -1)
    loads, held, spent = (np.zeros((columns, every.shape[1])) for _ in range(3))
    count = np.zeros(loads.shape, dtype=np.int64)
    table = problem.hosts
    for row in range(rows):
        for column in range(columns):
            here = every[row] == column
            loads[column, here] += problem.cost[row, column]
            held[column, here] += problem.memory[row, column]
            count[column, here] += 1
            if table is not None:
                spent[column, here] += table.cpu[row, column]
    if problem.slowdown is not None:
        loads *= np.take_along_axis(problem.slowdown, count, axis=1)
    longest = np.where((held <= problem.capacity[:, None] + SLACK_MIB).all(axis=0), loads.max(axis=0), np.inf)
    for number, base in enumerate(table.base if table is not None else ()):
        longest = np.maximum(longest, spent[table.host == number].sum(axis=0) + base)  # type: ignore[union-attr]
    best = int(longest.argmin())
    assign = every[:, best] if np.isfinite(longest[best]) else packing.feasible_start(problem)  # raises, with names
    return Answer.of(problem, assign, cycle(problem, assign), optimal=True)


def _climbed(problem: Problem, budget: Budget, assign: IntArray, prices: Prices) -> Answer:
    """Moves and swaps under the full objective, from the best heuristic and from the best placement of the rest."""
    plain = optimal(replace(problem, links=None, slowdown=None, hosts=None), budget.part(budget.left() * 0.5))
    starts = [assign, np.asarray(plain.shares.argmax(axis=1), dtype=np.int64)]
    bound = max(prices.bound, plain.bound)
    if problem.hosts is not None:
        if _closed(problem, starts[1], bound):
            return Answer.of(problem, starts[1], bound, optimal=True)
        bound = max(bound, _relaxed_bound(problem, budget))
    for start in starts:
        part = budget.part(budget.left() * (0.5 if start is assign else 1.0))
        climbed = climb(problem, start, lambda rows: (-cycle(problem, rows),), part)
        assign = _best(problem, [assign, climbed])
    exact = problem.links is None and problem.slowdown is None and problem.cost.size <= MILP_PAIRS
    if exact and not _closed(problem, assign, bound) and budget.left() > 0:
        found = milp.shortest_cycle(problem, cycle(problem, assign), bound, budget.left())
        if found.assign is not None and packing.fits(problem, found.assign):
            assign = _best(problem, [assign, found.assign])
        bound = max(bound, min(found.bound, cycle(problem, assign)))
        return Answer.of(problem, assign, bound, optimal=found.proven or _closed(problem, assign, bound))
    return Answer.of(problem, assign, bound, optimal=_closed(problem, assign, bound))


def _relaxed_bound(problem: Problem, budget: Budget) -> float:
    """The cycle that the prices of the LP with hosts' cores prove, s; 0: none in time."""
    if problem.cost.size > MILP_PAIRS:
        return 0.0
    found = lp.solve(problem, np.isfinite(problem.cost), budget.part(budget.left() * 0.3).left())
    return 0.0 if found is None else value(problem, found.pi, found.mu)


def best_heuristic(problem: Problem, prices: Prices) -> IntArray:
    """Return the better one of MFS and HFS."""
    found = (mfs.placements(problem), hfs.placements(problem, prices))
    return _best(problem, [mfs.best_polished(problem, some, "optimal")[0] for some in found])


def _best(problem: Problem, found: Sequence[IntArray | None]) -> IntArray:
    return min((a for a in found if a is not None), key=lambda assign: cycle(problem, assign))


def _medium(problem: Problem, budget: Budget, prices: Prices, assign: IntArray) -> Answer:
    """A short search, then the sets of models (:mod:`partition`); the same once more; then HiGHS.

    Each works on the pairs that can still matter (:mod:`deadline`).
    """
    few = problem.shape[0] <= partition.MOST_MODELS
    assign = assign if few else _best(problem, [assign, rounded(problem, prices, budget)])
    bound = prices.bound
    for vain, part in ((VAIN, SETS_PART), (VAIN_AGAIN, SETS_PART), (0, 1.0)) if few else ((VAIN_LARGE, 1.0),):
        search = budget.part(budget.left() * (SEARCH_PART if few else LONG_SEARCH_PART))
        if not few:
            levelled = search.part(search.left() * LEVELLED_PART)
            assign = Levelling.at(problem, assign, prices).run(max(bound, prices.bound), levelled)
        assign = improve(problem, assign, search, prices, vain) if vain else assign
        exact = not (few and vain)
        part_s = budget.part(budget.left() * FILTER_PART)
        left = filtered(problem, cycle(problem, assign), prices, bound, part_s, ROUNDS if exact else 0)
        bound = max(bound, left.bound)
        if left.empty or _closed(problem, assign, bound):
            return Answer.of(problem, assign, bound, optimal=True)
        found = _finish(left, cycle(problem, assign), bound, prices, budget.part(budget.left() * part), whole=exact)
        if found.assign is not None and packing.fits(problem, found.assign):
            assign = _best(problem, [assign, found.assign])
        bound = max(bound, min(found.bound, cycle(problem, assign)))
        if found.proven or _closed(problem, assign, bound):
            return Answer.of(problem, assign, bound, optimal=True)
    return Answer.of(problem, assign, bound)


def _finish(left: Filtered, upper: float, lower: float, even: Prices, budget: Budget, *, whole: bool) -> MilpResult:
    """Search what is left exactly: by sets of models, or `whole` by HiGHS or CP-SAT."""
    if not whole:
        return partition.shortest_cycle(left.problem, upper, lower, left.prices, even, budget)
    finish = cpsat.shortest_cycle if cpsat.available() else milp.shortest_cycle
    return finish(left.problem, upper, lower, budget.left())


def _large(problem: Problem, budget: Budget, prices: Prices, start: IntArray | None = None) -> Answer:
    """Prices, the LP where there is time for it, and levelling to the end of the budget."""
    options = [start, rounded(problem, prices, budget)]
    for factor in FILLS:
        if not budget.over():
            options.append(filled(problem, prices, prices.bound * factor))
    if all(option is None for option in options):
        options.append(best_heuristic(problem, prices))
    best = descend(problem, _best(problem, options), budget)
    bound = max(prices.bound, filtered_bound(problem, cycle(problem, best), prices, budget))
    near = below(problem, cycle(problem, best) * (1 + CLOSE))
    assign = Levelling.at(near, best, prices).run(bound, budget)
    bound = max(bound, filtered_bound(problem, cycle(problem, assign), prices, budget))
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
