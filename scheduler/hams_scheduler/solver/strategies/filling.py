"""A placement under construction: what devices carry, and what each model would make of each device next."""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem


class Filling:
    """Models put on devices one at a time.

    `own` is M×D: the cycle of each device, or of its host's cores where that is longer, if the model were put there
    next, in s; infinite where the model may not run or its memory does not fit. `first` and `second` are M: the least
    and second least of these cycles, `alone` the least one with that model only. `allocations` is M device rows, -1
    where a model waits.
    """

    def __init__(self, problem: Problem) -> None:
        rows, columns = problem.shape
        self.problem = problem
        self.allocations: IntArray = np.full(rows, -1, dtype=np.int64)
        self.waiting = np.ones(rows, dtype=bool)
        self._used, self._room = np.zeros(columns), problem.capacity + SLACK_MIB
        self._count = np.zeros(columns, dtype=np.int64)
        self._spent = np.zeros(0) if problem.hosts is None else problem.hosts.base.copy()
        self.own: FloatArray = np.empty((rows, columns))
        for column in range(columns):
            self._renew(column)
        self.alone: FloatArray = np.asarray(problem.cost.min(axis=1), dtype=np.float64)
        self.first, self.second = np.empty(rows), np.empty(rows)
        self._best, self._next = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
        self._rank(np.arange(rows))

    def put(self, row: int, column: int) -> None:
        """Put a waiting model on a device."""
        problem = self.problem
        self.allocations[row] = column
        self.waiting[row] = False
        self._used[column] += problem.cost[row, column]
        self._room[column] -= problem.memory[row, column]
        self._count[column] += 1
        changed = [column]
        if problem.hosts is not None:
            host = problem.hosts.host[column]
            self._spent[host] += problem.hosts.cpu[row, column]
            changed = [int(other) for other in np.nonzero(problem.hosts.host == host)[0]]
        for other in changed:
            self._renew(other)
            self._rank(np.nonzero(((self._best == other) | (self._next == other)) & self.waiting)[0])

    def _renew(self, column: int) -> None:
        """Compute what models would make of one device."""
        problem = self.problem
        own = self._used[column] + problem.cost[:, column]
        if problem.slowdown is not None:
            own *= problem.slowdown[column, min(self._count[column] + 1, len(self.waiting))]
        if problem.hosts is not None:
            own = np.maximum(own, self._spent[problem.hosts.host[column]] + problem.hosts.cpu[:, column])
        own[problem.memory[:, column] > self._room[column]] = np.inf
        self.own[:, column] = own

    def _rank(self, rows: IntArray) -> None:
        """Find the two best devices of some models; cycles only grow, so those of the others stay."""
        own, every = self.own[rows], np.arange(len(rows))
        best = own.argmin(axis=1)
        self._best[rows], self.first[rows] = best, own[every, best]
        own[every, best] = np.inf
        best = own.argmin(axis=1)
        self._next[rows], self.second[rows] = best, own[every, best]
