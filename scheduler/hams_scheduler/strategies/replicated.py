"""Nodes shared over devices: the LP optimum, with few replicas.

With shares x the least cycle is a linear program: min t, sum_d x_md = 1, sum_m P_md x_md ≤ t. A vertex of it splits at
most D - 1 nodes (Lenstra, Shmoys and Tardos 1990), so the simplex method gives few replicas by itself. Each replica
holds the node's whole memory. Shares below `LEAST_SHARE` and replicas that do not fit are struck out one by one and the
rest is solved again; the answer is never worse than `optimal`'s.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, hstack, vstack

from hams_scheduler.clock import Budget
from hams_scheduler.instance import FloatArray
from hams_scheduler.objective import breaches, share_cycle
from hams_scheduler.placement import Answer
from hams_scheduler.problem import SLACK_MIB, IntArray, Problem
from hams_scheduler.strategies.optimal import optimal
from hams_scheduler.strategies.prices import Prices, priced, sweep, value

LEAST_SHARE = 0.05
"""A replica with less is not worth its memory."""
FULL_LP_PAIRS = 20_000
"""Largest M×D solved with all pairs; beyond it each model keeps its cheapest devices only."""
KEPT = 4
"""Cheapest devices per model, at the device prices, in a large LP."""
ROUNDS = 60
"""Most solutions of the LP while replicas are struck out."""


def replicated(problem: Problem, budget: Budget) -> Answer:
    """Return shares with the shortest cycle found, and the LP's bound."""
    whole = optimal(problem, budget.part(budget.seconds * 0.4))
    if problem.one_per_device:
        return Answer(whole.shares, whole.bound, whole.optimal, ("replicated: the objective paper shares nothing",))
    prices = sweep(problem, budget.part(budget.left() * 0.4), 60)
    allowed = _worthwhile(problem, prices, whole.shares)
    full = bool(allowed.sum() == np.isfinite(problem.cost).sum())
    bound = value(problem, prices.pi, prices.mu)
    best, least = whole.shares, share_cycle(problem, whole.shares)
    for turn in range(ROUNDS):
        if turn and budget.over():
            break
        solved = _solve(problem, allowed, least, budget)
        if solved is None:
            break
        shares, length = solved
        if turn == 0 and full:
            bound = max(bound, length * (1 - 1e-7))
        struck = _struck(problem, shares)
        if not len(struck):
            if share_cycle(problem, shares) < least and not breaches(problem, shares):
                best = shares
            break
        for row, column in struck:
            allowed[row, column] = False
        if not allowed.any(axis=1).all():
            break
    return Answer(best, min(bound, share_cycle(problem, best)), share_cycle(problem, best) <= bound * (1 + 1e-6))


def _worthwhile(problem: Problem, prices: Prices, whole: FloatArray) -> np.ndarray:
    """Return M×D: the pairs that the LP may use."""
    allowed = np.isfinite(problem.cost)
    if allowed.size <= FULL_LP_PAIRS:
        return allowed
    paid = np.where(allowed, priced(problem, prices.pi, prices.mu), np.inf)
    kept = np.zeros_like(allowed)
    nearest = np.argpartition(paid, min(KEPT, paid.shape[1] - 1), axis=1)[:, :KEPT]
    kept[np.arange(len(paid))[:, None], nearest] = True
    return (kept & allowed) | (whole > 0)


def _solve(problem: Problem, allowed: np.ndarray, upper: float, budget: Budget) -> tuple[FloatArray, float] | None:
    """Return a vertex of the LP over the allowed pairs, and its cycle; None when there is none in time."""
    rows, columns = np.nonzero(allowed)
    count, (models, devices) = len(rows), problem.shape
    index = np.arange(count)
    cost = problem.cost[rows, columns] / upper
    time = hstack([csr_array((cost, (columns, index)), shape=(devices, count)), csr_array(-np.ones((devices, 1)))])
    limits, rights = [time], [np.zeros(devices)]
    if problem.tight:
        bounded = np.nonzero(np.isfinite(problem.capacity))[0]
        held = csr_array((problem.memory[rows, columns], (columns, index)), shape=(devices, count + 1))
        limits.append(csr_array(held)[bounded])
        rights.append(problem.capacity[bounded])
    found = linprog(
        np.append(np.zeros(count), 1.0),
        A_ub=vstack(limits).tocsr(),
        b_ub=np.concatenate(rights),
        A_eq=coo_array((np.ones(count), (rows, index)), shape=(models, count + 1)).tocsr(),
        b_eq=np.ones(models),
        bounds=(0, None),
        method="highs-ds",
        options={"time_limit": max(budget.left(), 0.05), "disp": False},
    )
    if found.x is None or found.status != 0:
        return None
    shares = np.zeros(problem.shape)
    shares[rows, columns] = np.where(found.x[:-1] < 1e-9, 0.0, found.x[:-1])
    shares /= shares.sum(axis=1, keepdims=True)
    return shares, float(found.x[-1]) * upper


def _struck(problem: Problem, shares: FloatArray) -> list[tuple[int, int]]:
    """Return the pairs to strike out: shares that are too small, else the least on each device that is too full."""
    small = (shares > 0) & (shares < LEAST_SHARE)
    if small.any():
        order = np.argsort(np.where(small, shares, np.inf), axis=None)[: max(1, int(small.sum()) // 2)]
        return [_pair(int(flat), shares.shape[1]) for flat in order]
    found = []
    placed = shares > 0
    split: IntArray = placed.sum(axis=1)
    held = np.where(placed, problem.memory, 0.0).sum(axis=0)
    for column in np.nonzero(held > problem.capacity + SLACK_MIB)[0]:
        here = np.nonzero(placed[:, column] & (split > 1))[0]
        if len(here):
            found.append((int(here[shares[here, column].argmin()]), int(column)))
    return found


def _pair(flat: int, columns: int) -> tuple[int, int]:
    return flat // columns, flat % columns
