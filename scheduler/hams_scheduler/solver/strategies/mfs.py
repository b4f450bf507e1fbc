"""Model-first scheduling (MFS).

Source: HAMS (SEC 2020) and its slides: take the worst-case model, the one whose best achievable FPS is lowest, and
give it the device where the group stays fastest. Here models are ordered by their best achievable cycle `min_d w/F`,
longest first, and a model with one feasible device precedes all others. Each goes where the group's cycle grows
least; ties go to the shorter own cycle of the device, then to the faster device. A greedy order suffers where memory
is scarce, so models then leave the bottleneck, by moves and swaps, as long as one shortens the group's cycle. The
answer is never worse than everything on the best single device.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, HostTable, IntArray, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import packing, paper
from hams_scheduler.solver.strategies.local_search import climb, descend
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget

POLISHED = 2000
"""Most moves and swaps of a placement, M × (M + D), that are tried one by one where hosts' cores count."""


def mfs(problem: Problem, budget: Budget) -> Answer:
    """Return the MFS placement; M×D steps of arithmetic."""
    if problem.one_per_device:
        return paper.mfs(problem, budget)
    assign, notes = or_single(problem, place(problem), "mfs")
    return Answer.of(problem, assign, sweep(problem, budget, 30).bound, notes=notes)


def place(problem: Problem, start: IntArray | None = None) -> IntArray | None:
    """Return the assignment, or None when the greedy order runs out of memory.

    `start` (M device rows, -1: not placed) holds nodes that stay.
    """
    rows, columns = problem.shape
    best = problem.cost.min(axis=1)
    only = np.isfinite(problem.cost).sum(axis=1) == 1
    assign = np.full(rows, -1, dtype=np.int64) if start is None else start.copy()
    fixed = np.nonzero(assign >= 0)[0]
    at = assign[fixed]
    used, room, count = np.zeros(columns), problem.capacity.copy(), np.bincount(at, minlength=columns)
    np.add.at(used, at, problem.cost[fixed, at])
    np.subtract.at(room, at, problem.memory[fixed, at])
    every = np.arange(columns)
    longest = float(used.max())
    spent = np.zeros(0)
    if problem.hosts is not None:
        spent = spent_on(problem.hosts, assign)
        longest = max(longest, float(spent.max()))
    for row in np.lexsort((-best, ~only)):
        if assign[row] >= 0:
            continue
        own = used + problem.cost[row]
        if problem.slowdown is not None:
            own = own * problem.slowdown[every, count + 1]
        if problem.hosts is not None:
            own = np.maximum(own, spent[problem.hosts.host] + problem.hosts.cpu[row])
        own = np.where(problem.memory[row] <= room + SLACK_MIB, own, np.inf)
        if not np.isfinite(own.min()):
            return None
        column = _shortest(own, longest, problem.cost[row])
        assign[row] = column
        used[column] += problem.cost[row, column]
        room[column] -= problem.memory[row, column]
        count[column] += 1
        if problem.hosts is not None:
            spent[problem.hosts.host[column]] += problem.hosts.cpu[row, column]
        longest = max(longest, float(own[column]))
    return assign


def _shortest(own: FloatArray, longest: float, cost: FloatArray) -> int:
    """Return the device that leaves the shortest cycle: `own` by device, `longest` of all so far; then the cheapest."""
    grown = np.maximum(own, longest)
    tied = np.nonzero(grown <= grown.min() * (1 + 1e-12))[0]
    if tied.size > 1:
        tied = tied[own[tied] <= own[tied].min() * (1 + 1e-12)]
    return int(tied[cost[tied].argmin()])


def spent_on(table: HostTable, assign: IntArray) -> FloatArray:
    """Return H seconds of the hosts' cores that the frames and the placed rows of `assign` (-1: not placed) take."""
    rows = np.nonzero(assign >= 0)[0]
    by_device = np.bincount(assign[rows], table.cpu[rows, assign[rows]], minlength=table.cpu.shape[1])
    return table.total(by_device) + table.base


def single(problem: Problem) -> IntArray | None:
    """Return everything on the single device where that is fastest; None if no device holds all."""
    total = problem.cost.sum(axis=0)
    if problem.slowdown is not None:
        total = total * problem.slowdown[:, -1]
    if problem.hosts is not None:
        total = np.maximum(total, problem.hosts.cpu.sum(axis=0) + problem.hosts.base[problem.hosts.host])
    total = np.where(problem.memory.sum(axis=0) <= problem.capacity + SLACK_MIB, total, np.inf)
    column = int(total.argmin())
    return np.full(problem.shape[0], column, dtype=np.int64) if np.isfinite(total[column]) else None


def or_single(problem: Problem, assign: IntArray | None, name: str) -> tuple[IntArray, tuple[str, ...]]:
    """Return `assign` or, when better, everything on one device; if both fail, some feasible packing."""
    alone = single(problem)
    notes: tuple[str, ...] = ()
    if assign is None:
        if alone is None:
            alone = packing.feasible_start(problem)
        return polished(problem, alone), (f"{name}: its order runs out of memory; a placement that fits was used",)
    if alone is not None and cycle(problem, alone) < cycle(problem, assign):
        return alone, (f"{name}: everything on {problem.devices[alone[0]]} is faster than its own placement",)
    return polished(problem, assign), notes


def polished(problem: Problem, assign: IntArray) -> IntArray:
    """Return `assign` after moves and swaps off the bottleneck, as many as there are devices twice over.

    Where hosts' cores count, it improves the placement without them first, then small ones with them.
    """
    rows, columns = problem.shape
    if problem.plain:
        return descend(problem, assign, Budget.start(np.inf), 2 * columns)
    if problem.hosts is None:
        return assign
    free = polished(replace(problem, hosts=None), assign)
    assign = free if cycle(problem, free) < cycle(problem, assign) else assign
    if rows * (rows + columns) > POLISHED:
        return assign
    return climb(problem, assign, lambda tried: (-cycle(problem, tried),), Budget.start(np.inf), 2 * columns)
