"""Improving a placement by moves and swaps: of a plain problem by its table of costs, else by any score.

In a plain problem the cycle is a sum of costs per device. Only the bottleneck matters to the objective, so every step
takes something off the most loaded device, by the move or swap that leaves the two devices concerned shortest
(Vredeveld and Hurkens, *Experimental comparison of approximation algorithms for scheduling unrelated parallel
machines*, 2002). Where none helps, :mod:`neighbourhood` goes on.

Links, hosts' cores, count-dependent slowdown and the order in which groups are served are not in a table of costs.
There :func:`climb` lets :mod:`objective` score every placement in full, which is slow but exact, from a placement of
the fast searches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies import neighbourhood
from hams_scheduler.solver.strategies.prices import Prices
from hams_scheduler.solver.time_budget import Budget

SHRINK = 1 - 1e-9
"""A step must shorten the cycle by more than rounding."""
Score = Callable[[IntArray], tuple[float, ...]]
"""Of an assignment (M device rows); the larger tuple is better."""


@dataclass
class Search:
    """A placement under improvement: M device rows with what they load and hold."""

    problem: Problem
    assign: IntArray
    loads: FloatArray
    room: FloatArray

    @staticmethod
    def of(problem: Problem, assign: IntArray) -> Search:
        """Begin at `assign`, which must keep support and memory."""
        rows, columns = problem.shape
        index = np.arange(rows)
        loads = np.bincount(assign, weights=problem.cost[index, assign], minlength=columns).astype(np.float64)
        held = np.bincount(assign, weights=problem.memory[index, assign], minlength=columns)
        return Search(problem, assign.copy(), loads, problem.capacity - held + SLACK_MIB)

    @property
    def cycle(self) -> float:
        """Seconds per frame (over target)."""
        return float(self.loads.max())

    def put(self, row: int, column: int) -> None:
        """Move one model."""
        old, p = self.assign[row], self.problem
        self.loads[old] -= p.cost[row, old]
        self.room[old] += p.memory[row, old]
        self.loads[column] += p.cost[row, column]
        self.room[column] -= p.memory[row, column]
        self.assign[row] = column

    def step(self) -> bool:
        """Make the best move or swap off the bottleneck; False when none shortens it."""
        p = self.problem
        full = int(self.loads.argmax())
        cycle = self.loads[full]
        here = np.nonzero(self.assign == full)[0]
        left = cycle - p.cost[here, full]
        after = np.maximum(left[:, None], self.loads[None, :] + p.cost[here])
        after[:, full] = np.inf
        after[p.memory[here] > self.room[None, :]] = np.inf
        best = int(after.argmin())
        found = float(after.flat[best])
        move = (int(here[best // p.shape[1]]), best % p.shape[1], -1)
        swapped = self._best_swap(here, full)
        if swapped is not None and swapped[0] < found:
            found, move = swapped[0], swapped[1]
        if found >= cycle * SHRINK:
            return False
        row, column, other = move
        self.put(row, column)
        if other >= 0:
            self.put(other, full)
        return True

    def _best_swap(self, here: IntArray, full: int) -> tuple[float, tuple[int, int, int]] | None:
        """The swap of a model `here`, on `full`, with any other that leaves both devices shortest."""
        p = self.problem
        others = np.nonzero((self.assign != full) & np.isfinite(p.cost[:, full]))[0]
        if not len(others):
            return None
        at = self.assign[others]
        mine = self.loads[full] - p.cost[here, full][:, None] + p.cost[others, full][None, :]
        theirs = (self.loads[at] - p.cost[others, at])[None, :] + p.cost[here[:, None], at[None, :]]
        after = np.maximum(mine, theirs)
        if p.tight:
            space = self.room[at] + p.memory[others, at]
            after[p.memory[here[:, None], at[None, :]] > space[None, :]] = np.inf
            own = self.room[full] + p.memory[here, full]
            after[p.memory[others, full][None, :] > own[:, None]] = np.inf
        best = int(after.argmin())
        row, other = int(here[best // len(others)]), int(others[best % len(others)])
        return float(after.flat[best]), (row, int(self.assign[other]), other)


def descend(problem: Problem, assign: IntArray, budget: Budget, steps: int | None = None) -> IntArray:
    """Return `assign` after moves and swaps off the bottleneck, until none helps, `steps` are made or time is up."""
    search = Search.of(problem, assign)
    while (steps is None or steps > 0) and not budget.over() and search.step():
        steps = None if steps is None else steps - 1
    return search.assign


def improve(problem: Problem, assign: IntArray, budget: Budget, prices: Prices, stall: int) -> IntArray:
    """Return a placement no worse than `assign`: moves and swaps, then neighbourhoods placed anew.

    Ends at the budget, at the bound that `prices` prove, or after `stall` neighbourhoods in a row in vain.
    """
    search = neighbourhood.Search(problem, descend(problem, assign, budget), prices)
    search.run(prices.bound, budget, stall)
    return search.assign


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
