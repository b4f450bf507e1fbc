"""Hardware-first scheduling (HFS).

Source: HAMS (SEC 2020) and its slides: walk the devices, worst case first, and give each the model that suits it
best. Here, for a cycle time T, the devices, slowest first, take the models with the least regret against the later
devices (least `cost here / best cost later`), while they fit into T and into memory. T is found by bisection. Then
models leave the bottleneck as in :mod:`mfs`, and the answer is compared with everything on the best single device.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, HostTable, IntArray, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import mfs, paper
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget

BISECTIONS = 14


def hfs(problem: Problem, budget: Budget) -> Answer:
    """Return the HFS placement: some fourteen fills of all devices."""
    if problem.one_per_device:
        return paper.hfs(problem, budget)
    bound = sweep(problem, budget, 30).bound
    assign, notes = mfs.or_single(problem, place(problem, bound), "hfs")
    return Answer.of(problem, assign, bound, notes=notes)


def place(problem: Problem, bound: float) -> IntArray | None:
    """Return the assignment of the smallest budget T ≥ `bound` (seconds) found to work, or None."""
    best = problem.cost.min(axis=1)
    speed = np.where(np.isfinite(problem.cost), best[:, None] / problem.cost, 0.0).mean(axis=0)
    order = np.argsort(speed, kind="stable")
    later = _later(problem, order)
    low, high = bound, bound
    found = None
    for _ in range(12):
        found = fill(problem, high, order, later)
        if found is not None:
            break
        low, high = high, high * 1.6
    if found is None:
        return None
    least = cycle(problem, found)
    for _ in range(BISECTIONS):
        high = min(high, least)
        if high - low <= 1e-4 * high:
            break
        middle = (low + high) / 2
        tried = fill(problem, middle, order, later)
        if tried is None:
            low = middle
            continue
        high = middle
        length = cycle(problem, tried)
        if length < least:
            found, least = tried, length
    return found


def fill(problem: Problem, limit: float, order: IntArray, later: FloatArray) -> IntArray | None:
    """Return an assignment with every device's cycle ≤ `limit` seconds, or None when the fill leaves a model."""
    rows = problem.shape[0]
    assign = np.full(rows, -1, dtype=np.int64)
    left = np.arange(rows)
    spare = None if problem.hosts is None else limit * (1 + 1e-12) - problem.hosts.base
    for rank, column in enumerate(order):
        cost = problem.cost[left, column]
        with np.errstate(invalid="ignore"):
            regret = cost / later[rank, left]
        regret[~np.isfinite(cost)] = np.inf
        here = np.lexsort((-cost, regret))
        here = here[np.isfinite(cost[here])]
        taken = _take(problem, left[here], int(column), limit, spare)
        assign[taken] = column
        left = left[assign[left] < 0]
        if not left.size:
            return assign
        if not np.isfinite(later[rank, left]).all():
            return None
    return None


def _take(problem: Problem, rows: IntArray, column: int, limit: float, spare: FloatArray | None) -> IntArray:
    """Return those of `rows`, in order, that fit one after another into `limit` seconds and the memory.

    They also fit into what the hosts' cores have to `spare`, seconds, which they reduce.
    """
    if spare is not None and problem.hosts is not None:
        rows = _on_cores(problem.hosts, rows, column, spare)
    taken: list[IntArray] = []
    time, room = limit * (1 + 1e-12), float(problem.capacity[column]) + SLACK_MIB
    if problem.slowdown is not None:
        time /= float(problem.slowdown[column].mean())
    while rows.size:
        cost, memory = problem.cost[rows, column], problem.memory[rows, column]
        fit = (cost <= time) & (memory <= room)
        rows, cost, memory = rows[fit], cost[fit], memory[fit]
        ok = (np.cumsum(cost) <= time) & (np.cumsum(memory) <= room)
        stop = int(ok.argmin()) if not ok.all() else len(rows)
        if stop == 0:
            break
        taken.append(rows[:stop])
        time -= float(cost[:stop].sum())
        room -= float(memory[:stop].sum())
        rows = rows[stop:]
    found = np.concatenate(taken) if taken else np.zeros(0, dtype=np.int64)
    if spare is not None and problem.hosts is not None:
        spare[problem.hosts.host[column]] -= problem.hosts.cpu[found, column].sum()
    return found


def _on_cores(table: HostTable, rows: IntArray, column: int, spare: FloatArray) -> IntArray:
    """Return those of `rows`, in order, that together fit into what the cores of the device's host have to spare."""
    left, kept = float(spare[table.host[column]]), []
    for row in rows:
        if table.cpu[row, column] <= left:
            left -= float(table.cpu[row, column])
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _later(problem: Problem, order: IntArray) -> FloatArray:
    """Return D×M: the best cost of each model on the devices after each rank; infinite at the last."""
    later = np.full((len(order), problem.shape[0]), np.inf)
    for rank in range(len(order) - 2, -1, -1):
        later[rank] = np.minimum(later[rank + 1], problem.cost[:, order[rank + 1]])
    return later
