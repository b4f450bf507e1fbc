"""Improving a placement: moves and swaps on the bottleneck, then exact re-placement of small neighbourhoods.

For plain problems (the cycle is a sum of costs per device). Only the bottleneck matters to the objective, so every step
takes something off the most loaded device, by the move or swap that leaves the two devices concerned shortest; where
none helps, a few models of the bottleneck and some other devices are placed anew, exactly, by
:mod:`hams_scheduler.strategies.subsets` (large-neighbourhood search: Shaw 1998; on the bottleneck: Vredeveld and
Hurkens, *Experimental comparison of approximation algorithms for scheduling unrelated parallel machines*, 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hams_scheduler.clock import Budget
from hams_scheduler.instance import FloatArray
from hams_scheduler.problem import SLACK_MIB, IntArray, Problem
from hams_scheduler.strategies import subsets
from hams_scheduler.strategies.prices import Prices, priced

FREED = 9
"""Models placed anew at a time: 3^9 pairs of subsets, about a millisecond."""
SHRINK = 1 - 1e-9
"""A step must shorten the cycle by more than rounding."""


@dataclass
class Search:
    """A placement under improvement: M device rows with what they load and hold."""

    problem: Problem
    assign: IntArray
    loads: FloatArray
    room: FloatArray
    paid: FloatArray
    """M×D: what each model pays on each device at the device prices."""

    @staticmethod
    def of(problem: Problem, assign: IntArray, prices: Prices | None = None) -> Search:
        """Begin at `assign`, which must keep support and memory."""
        rows, columns = problem.shape
        index = np.arange(rows)
        loads = np.bincount(assign, weights=problem.cost[index, assign], minlength=columns).astype(np.float64)
        held = np.bincount(assign, weights=problem.memory[index, assign], minlength=columns)
        paid = problem.cost if prices is None else priced(problem, prices.pi, prices.mu)
        return Search(problem, assign.copy(), loads, problem.capacity - held + SLACK_MIB, paid)

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

    def replace(self, rng: np.random.Generator) -> bool:
        """Place some models of the bottleneck and one to three other devices anew; False when that does not help."""
        p = self.problem
        columns = p.shape[1]
        full = int(self.loads.argmax())
        count = min(columns - 1, int(rng.integers(1, 4)))
        if not count:
            return False
        slack = np.maximum(self.cycle - self.loads, 0.0) + 1e-3 * self.cycle
        slack[full] = 0.0
        others = rng.choice(columns, count, replace=False, p=slack / slack.sum())
        devices = np.concatenate([[full], others])
        free = self._freed(devices, rng)
        base = self.loads[devices].copy()
        room = self.room[devices].copy()
        for row in free:
            spot = int(np.nonzero(devices == self.assign[row])[0][0])
            base[spot] -= p.cost[row, self.assign[row]]
            room[spot] += p.memory[row, self.assign[row]]
        table = subsets.loads(
            p.cost[np.ix_(free, devices)], p.memory[np.ix_(free, devices)] if p.tight else None, room, base
        )
        length, chosen = subsets.solve(table)
        if not length < self.cycle * SHRINK:
            return False
        for row, spot in zip(free, chosen, strict=True):
            self.put(int(row), int(devices[spot]))
        return True

    def _freed(self, devices: IntArray, rng: np.random.Generator) -> IntArray:
        """Up to FREED models on `devices`, at least a third of them from the first.

        Those come first that lose least, at the device prices, by going to another of these devices; some chance is
        mixed in, so that tries differ.
        """
        rows = np.nonzero(np.isin(self.assign, devices))[0]
        own = self.assign[rows]
        paid = np.where(devices[None, :] == own[:, None], np.inf, self.paid[rows[:, None], devices[None, :]])
        regret = paid.min(axis=1) / np.maximum(self.paid[rows, own], 1e-300)
        order = rows[np.argsort(regret * rng.uniform(1.0, 1.5, len(rows)), kind="stable")]
        here = self.assign[order] == devices[0]
        first, rest = order[here], order[~here]
        take = min(len(first), max(FREED // 3, FREED - len(rest)))
        return np.concatenate([first[:take], rest[: FREED - take]])


def improve(problem: Problem, assign: IntArray, budget: Budget, prices: Prices, tries: int) -> IntArray:
    """Return a placement no worse than `assign`.

    Ends at the budget, at the bound that `prices` prove, or after `tries` neighbourhoods in a row in vain.
    """
    search, bound = Search.of(problem, assign, prices), prices.bound
    rng = np.random.default_rng(0)
    vain = 0
    while not budget.over() and search.cycle > bound * (1 + 1e-9):
        if search.step():
            continue
        if vain >= tries:
            break
        vain = 0 if search.replace(rng) else vain + 1
    return search.assign
