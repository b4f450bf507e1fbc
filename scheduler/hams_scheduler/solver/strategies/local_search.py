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


@dataclass(frozen=True)
class Step:
    """Changes (model, device), in order, and the longest cycle, s, that they leave to the devices concerned."""

    cycle: float
    changes: list[tuple[int, int]]


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
        """Make the best move or swap off the bottleneck, else the best chain; False when none shortens it."""
        full = int(self.loads.argmax())
        here, others = np.nonzero(self.assign == full)[0], np.nonzero(self.assign != full)[0]
        options = [self._best_move(here, full)]
        if len(others):
            options.append(self._best_swap(here, full, others))
        best = min(options, key=lambda option: option.cycle)
        if len(others) and best.cycle >= self.cycle * SHRINK:
            best = self._best_chain(here, full, others)
        if best.cycle >= self.cycle * SHRINK:
            return False
        for row, column in best.changes:
            self.put(row, column)
        return True

    def _best_move(self, here: IntArray, full: int) -> Step:
        """The move of a model `here`, on `full`, that leaves both devices shortest."""
        p = self.problem
        left = self.loads[full] - p.cost[here, full]
        after = np.maximum(left[:, None], self._added(here))
        after[:, full] = np.inf
        best, column = divmod(int(after.argmin()), p.shape[1])
        return Step(float(after[best, column]), [(int(here[best]), column)])

    def _best_swap(self, here: IntArray, full: int, others: IntArray) -> Step:
        """The swap of a model `here`, on `full`, with one of `others` that leaves both devices shortest."""
        p = self.problem
        mine = self.loads[full] - p.cost[here, full][:, None] + p.cost[others, full][None, :]
        after = np.maximum(mine, self._replaced(here, others))
        if p.tight:
            own = self.room[full] + p.memory[here, full]
            after[p.memory[others, full][None, :] > own[:, None]] = np.inf
        best, other = divmod(int(after.argmin()), len(others))
        row, other = int(here[best]), int(others[other])
        return Step(float(after.min()), [(row, int(self.assign[other])), (other, full)])

    def _best_chain(self, here: IntArray, full: int, others: IntArray) -> Step:
        """A model `here` takes the place of one of `others`, which moves on: what leaves all three devices shortest."""
        p = self.problem
        onward = self._added(others)
        onward[np.arange(len(others)), self.assign[others]] = np.inf
        onward[:, full] = np.inf
        to = onward.argmin(axis=1)
        left = self.loads[full] - p.cost[here, full]
        after = np.maximum(self._replaced(here, others), onward[np.arange(len(others)), to][None, :])
        after = np.maximum(after, left[:, None])
        best, other = divmod(int(after.argmin()), len(others))
        row, next_ = int(here[best]), int(others[other])
        return Step(float(after.min()), [(next_, int(to[other])), (row, int(self.assign[next_]))])

    def _added(self, rows: IntArray) -> FloatArray:
        """Return R×D seconds of each device with one of `rows` more; infinite where it does not fit."""
        p = self.problem
        after: FloatArray = self.loads[None, :] + p.cost[rows]
        if p.tight:
            after[p.memory[rows] > self.room[None, :]] = np.inf
        return after

    def _replaced(self, here: IntArray, others: IntArray) -> FloatArray:
        """Return H×O seconds of the device of each of `others` with one of `here` in its place."""
        p, at = self.problem, self.assign[others]
        after: FloatArray = (self.loads[at] - p.cost[others, at])[None, :] + np.take(p.cost[here], at, axis=1)
        if p.tight:
            space = self.room[at] + p.memory[others, at]
            after[np.take(p.memory[here], at, axis=1) > space[None, :]] = np.inf
        return after


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
