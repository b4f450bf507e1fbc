"""Nodes shared over devices: the LP optimum, with few replicas.

With shares the least cycle is a linear program, whose vertices split few nodes (:mod:`lp`), so the simplex method gives
few replicas by itself. Each replica holds the node's whole memory, which no LP sees, so two ways are tried:

    from above   solve over all pairs, strike out shares below `LEAST_SHARE` and replicas that do not fit, solve again
    from below   start from the whole placement and add replicas that fit, best reduced cost first, solving each time

The better one is taken; it is never worse than `optimal`'s placement, with which it starts. Where sharing gains less
than `WORTH_SHARING` the whole nodes stay: each replica holds memory, and costs more than an LP sees (on two cores a
detector that was shared out for 1 % made the group 11 % slower). The bound is the LP's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, Problem
from hams_scheduler.solver.objective import breaches, share_cycle
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import lp
from hams_scheduler.solver.strategies.optimal import optimal
from hams_scheduler.solver.strategies.prices import Prices, sweep, value
from hams_scheduler.solver.time_budget import Budget

LEAST_SHARE = 0.05
"""A replica with less is not worth its memory."""
FULL_LP_PAIRS = 20_000
"""Largest M×D solved with all pairs; beyond it each model keeps its cheapest devices only."""
ROUNDS = 60
"""Most solutions of the LP on one way."""
EXTRA = 0.2
"""By how much sharing may exceed the time limit, as a part of it."""
WORTH_SHARING = 0.03
"""Sharing must shorten the cycle of whole nodes by this part of it."""
WORTH = 1e-4
"""An added replica must shorten the cycle by this part of it."""


def replicated(problem: Problem, budget: Budget) -> Answer:
    """Return shares with the shortest cycle found, and a proven bound for shares.

    The search for whole nodes is that of `optimal` with the whole budget, so the answer is no worse. Sharing takes what
    that leaves, and up to `EXTRA` of the budget more.
    """
    whole = optimal(problem, budget)
    if problem.one_per_device:
        return Answer(whole.shares, whole.bound, whole.optimal, ("replicated: the objective paper shares nothing",))
    budget = replace(budget, seconds=budget.seconds * (1 + EXTRA))
    prices = sweep(problem, budget.part(budget.left() * 0.3), 60)
    bound, undivided = value(problem, prices.pi, prices.mu), share_cycle(problem, whole.shares)
    if bound > undivided * (1 - WORTH_SHARING):
        return _undivided(whole, undivided, bound, bound)
    best, bound = _shared(problem, whole.shares, prices, bound, budget)
    length = share_cycle(problem, best)
    if undivided * (1 - WORTH_SHARING) < length < undivided:
        return _undivided(whole, undivided, bound, length)
    return Answer(best, min(bound, length), length <= bound * (1 + 1e-6))


def _undivided(whole: Answer, undivided: float, bound: float, shared: float) -> Answer:
    """Return whole nodes, with a cycle of `undivided` seconds, because sharing them gives `shared` seconds at best."""
    notes = (f"replicated: sharing nodes would gain {undivided / shared - 1:.1%}, too little to be worth it",)
    proven = undivided <= bound * (1 + 1e-6)
    return Answer(whole.shares, min(bound, undivided), proven, () if proven else notes)


def _shared(
    problem: Problem, whole: FloatArray, prices: Prices, bound: float, budget: Budget
) -> tuple[FloatArray, float]:
    """Return the best shares found both ways, no worse than `whole`, and the bound of the LP where that is higher."""
    full = problem.cost.size <= FULL_LP_PAIRS
    allowed = np.isfinite(problem.cost) if full else lp.pruned(problem, prices) | (whole > 0)
    first = lp.solve(problem, allowed, budget.left())
    options = [whole]
    if first is not None:
        if full:
            bound = max(bound, first.cycle * (1 - 1e-7))
        options += [_from_above(problem, allowed, first.shares, budget), _from_below(problem, whole, budget)]
    kept = [shares for shares in options if not breaches(problem, shares)]
    return min(kept, key=lambda shares: share_cycle(problem, shares)), bound


def _from_above(problem: Problem, allowed: np.ndarray, shares: FloatArray, budget: Budget) -> FloatArray:
    """Strike out what is too small or does not fit until all that is left is neither."""
    allowed = allowed.copy()
    for _ in range(ROUNDS):
        struck = _struck(problem, shares)
        if not struck or budget.over():
            break
        for row, column in struck:
            allowed[row, column] = False
        if not allowed.any(axis=1).all():
            break
        again = lp.solve(problem, allowed, budget.left())
        if again is None:
            break
        shares = again.shares
    return shares


def _from_below(problem: Problem, whole: FloatArray, budget: Budget) -> FloatArray:
    """Add replicas that fit, one at a time, and drop those that the LP then does not use."""
    used = whole > 0
    best = lp.solve(problem, used, budget.left())
    if best is None:
        return whole
    vain = np.zeros_like(used)
    for _ in range(ROUNDS):
        pair = _best_addition(problem, used, vain, best)
        if pair is None or budget.over():
            break
        tried = used.copy()
        tried[pair] = True
        found = lp.solve(problem, tried, budget.left())
        if found is None or found.cycle > best.cycle * (1 - WORTH) or found.shares[pair] < LEAST_SHARE:
            vain[pair] = True
            continue
        best, used = found, tried & (found.shares >= LEAST_SHARE)
        again = lp.solve(problem, used, budget.left())
        best = again if again is not None else best
    return best.shares


def _best_addition(problem: Problem, used: np.ndarray, vain: np.ndarray, now: lp.LpResult) -> tuple[int, int] | None:
    """The replica that fits and whose reduced cost, relative to the node's worth, is least; None when none gains."""
    held = np.where(used, problem.memory, 0.0).sum(axis=0)
    fits = problem.memory <= (problem.capacity - held + SLACK_MIB)[None, :]
    cost = np.where(np.isfinite(problem.cost), problem.cost, np.inf)
    open_ = fits & ~used & ~vain & np.isfinite(cost)
    scale = np.maximum(now.worth, 1e-300)[:, None]
    paid = np.where(open_, cost, 0.0) * now.pi[None, : problem.shape[1]]
    if problem.hosts is not None:
        paid = paid + problem.hosts.cpu * now.pi[problem.shape[1] :][problem.hosts.host]
    reduced = np.where(open_, paid - now.worth[:, None], np.inf) / scale
    flat = int(reduced.argmin())
    row, column = divmod(flat, problem.shape[1])
    return (row, column) if reduced[row, column] < -1e-9 and np.isfinite(reduced[row, column]) else None


def _struck(problem: Problem, shares: FloatArray) -> list[tuple[int, int]]:
    """Return the pairs to strike out: shares that are too small, else the least on each device that is too full."""
    columns = shares.shape[1]
    small = (shares > 0) & (shares < LEAST_SHARE)
    if small.any():
        order = np.argsort(np.where(small, shares, np.inf), axis=None)[: max(1, int(small.sum()) // 2)]
        return [(int(flat) // columns, int(flat) % columns) for flat in order]
    found = []
    placed = shares > 0
    split = placed.sum(axis=1)
    held = np.where(placed, problem.memory, 0.0).sum(axis=0)
    for column in np.nonzero(held > problem.capacity + SLACK_MIB)[0]:
        here = np.nonzero(placed[:, column] & (split > 1))[0]
        if len(here):
            found.append((int(here[shares[here, column].argmin()]), int(column)))
    return found
