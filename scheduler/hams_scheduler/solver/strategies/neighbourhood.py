"""Large-neighbourhood search: free some models of the bottleneck and a few other devices, place those exactly.

Shaw 1998 gives the scheme. The freed part has some ten models on two to four devices, which `subsets` solves to
optimality in well under a millisecond; prices show which models could be placed elsewhere, and where. Every accepted
step shortens the bottleneck's cycle. The choices are drawn from a generator with a fixed seed: the same input gives the
same steps, and only the budget decides how many there are.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies import prices, subsets
from hams_scheduler.solver.strategies.prices import Prices
from hams_scheduler.solver.time_budget import Budget

FREED = {2: 13, 3: 10, 4: 9, 5: 9}
"""By number of devices: how many models are freed, so that one step takes some 0.2 to 0.6 ms."""


FIRST_AIM = 0.6
"""Where between the bound and the best cycle so far the search aims first."""
PATIENCE = 150
"""Steps without reaching the aim before it is moved nearer to the best."""
PENALTY = 10.0
"""What a second beyond the aim costs, times the highest price of a second."""


class Search:
    """An assignment with its sums, improved step by step; `problem` must be `plain`."""

    def __init__(self, problem: Problem, assign: IntArray, at: Prices) -> None:
        self.problem = problem
        table = prices.priced(problem, at.pi, at.mu)
        self.table = np.where(np.isfinite(table), np.maximum(table, 1e-300), np.inf)
        self.pi = np.maximum(at.pi, 1e-3 * float(at.pi.mean()))
        self.mu = at.mu
        self.tight = problem.tight
        self.rng = np.random.default_rng(0)
        self._reset(assign)

    def _reset(self, assign: IntArray) -> None:
        problem = self.problem
        self.assign = assign.copy()
        columns = problem.shape[1]
        index = np.arange(len(assign))
        loads = np.bincount(assign, weights=problem.cost[index, assign], minlength=columns)
        held = np.bincount(assign, weights=problem.memory[index, assign], minlength=columns)
        self.loads: FloatArray = np.asarray(loads, dtype=np.float64)
        self.held: FloatArray = np.asarray(held, dtype=np.float64)
        self.members = [np.nonzero(assign == column)[0] for column in range(columns)]

    @property
    def cycle(self) -> float:
        """The longest cycle in seconds."""
        return float(self.loads.max())

    def run(self, lower: float, budget: Budget, stall: int) -> None:
        """Step until the cycle reaches `lower` seconds, the budget ends, or `stall` steps in a row gain nothing."""
        if self.problem.shape[1] < 2:
            return
        idle, part = 0, FIRST_AIM
        best, least = self.assign.copy(), self.cycle
        aim = lower + part * (least - lower)
        since = 0
        while idle < stall and not budget.over() and least > lower * (1 + 1e-9):
            self.step(aim)
            idle, since = idle + 1, since + 1
            now = self.cycle
            if now < least * (1 - 1e-9):
                best, least, idle = self.assign.copy(), now, 0
            if now <= aim * (1 + 1e-12):
                part, since = FIRST_AIM, 0
                aim = lower + part * (least - lower)
            elif since > PATIENCE:
                part, since = part + (1 - part) * 0.5 if part < 0.95 else FIRST_AIM, 0
                aim = lower + part * (least - lower)
        self._reset(best)

    def step(self, aim: float) -> None:
        """Place one neighbourhood anew with the least time beyond `aim` seconds, then at the least price."""
        columns = self._devices(aim)
        rows = np.concatenate([self.members[column] for column in columns])
        most = FREED[len(columns)]
        if len(rows) > most:
            rows = rows[self._loosest(rows, columns, most)]
        cost = self.problem.cost[np.ix_(rows, columns)]
        place = np.searchsorted(columns, self.assign[rows])
        index = np.arange(len(rows))
        freed = np.bincount(place, weights=cost[index, place], minlength=len(columns))
        base = np.asarray(self.loads[columns] - freed, dtype=np.float64)
        memory = self.problem.memory[np.ix_(rows, columns)] if self.tight else None
        room = np.zeros(len(columns))
        if memory is not None:
            kept = self.held[columns] - np.bincount(place, weights=memory[index, place], minlength=len(columns))
            room = self.problem.capacity[columns] + SLACK_MIB - kept
        loads = subsets.loads(cost, memory, room, base)
        weight = self.pi[columns][:, None]
        paid = weight * loads + PENALTY * weight.max() * np.maximum(0.0, loads - aim)
        if self.tight and self.mu[columns].any():
            for number, column in enumerate(columns):
                paid[number] += self.mu[column] * subsets.sums(self.problem.memory[rows, column])
        _, chosen = subsets.solve(paid, added=True)
        if (columns[chosen] != self.assign[rows]).any():
            self._put(rows, columns[chosen])

    def _put(self, rows: IntArray, columns: IntArray) -> None:
        touched = np.union1d(self.assign[rows], columns)
        stay = [self.members[column] for column in touched]
        self.assign[rows] = columns
        every = np.concatenate(stay)
        for column in touched:
            mine = every[self.assign[every] == column]
            self.members[column] = mine
            self.loads[column] = self.problem.cost[mine, column].sum()
            self.held[column] = self.problem.memory[mine, column].sum()

    def _devices(self, aim: float) -> IntArray:
        """Return a device beyond `aim` (now and then any) and one to four others: near in price, or with time."""
        late = np.nonzero(self.loads > aim)[0]
        if late.size and self.rng.random() < 0.8:
            full = int(late[self.rng.integers(late.size)])
        else:
            full = int(self.rng.integers(len(self.loads)))
        columns = self.problem.shape[1]
        count = min(columns, int(self.rng.choice([2, 3, 3, 4, 4, 5])))
        noise = self.rng.gumbel(size=columns)
        if self.rng.random() < 0.6 and len(self.members[full]):
            mine = self.members[full]
            ratio = (self.table[mine] / self.table[mine, full][:, None]).min(axis=0)
            with np.errstate(divide="ignore"):
                score = -np.log(np.maximum(ratio, 1e-300)) * 8.0 + noise
        else:
            score = (1.0 - self.loads / aim) * 30.0 + noise
        score[full] = np.inf
        chosen = np.argpartition(-score, count - 1)[:count] if count < columns else np.arange(columns)
        return np.sort(chosen)

    def _loosest(self, rows: IntArray, columns: IntArray, most: int) -> IntArray:
        """Return which `most` of `rows` to free: those whose best other device costs least more, with noise."""
        part = self.table[np.ix_(rows, columns)]
        index = np.arange(len(rows))
        place = np.searchsorted(columns, self.assign[rows])
        own = part[index, place].copy()
        part[index, place] = np.inf
        with np.errstate(divide="ignore"):
            score = -np.log(part.min(axis=1) / own) * 5.0
        score = np.where(np.isfinite(score), score, -1e6) + self.rng.gumbel(size=len(rows))
        return np.argpartition(-score, most - 1)[:most]
