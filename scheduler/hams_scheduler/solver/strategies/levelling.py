"""Large placements: bring all devices below a cycle T, by the moves and swaps that waste least; then lower T.

At device prices (:mod:`prices`) each model has a cheapest device, and what a placement pays beyond that is wasted: it
is less than the slack of the devices in a placement near the bound. So every step minimises

    sum of what models pay  +  sum_d w_d * max(0, cycle_d - T),

over all moves and swaps of the models of one device, of those above T the one that counts most. w begins at the prices.
Where no step helps, the weight of that device grows (the breakout method: Morris, *The breakout method for escaping
from local minima*, 1993), another device may waste less, and all weights go back a little. When no device is above T,
T is lowered; when that takes too long, T is raised halfway to the best cycle so far. Nothing is drawn at random.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies import local_search, prices
from hams_scheduler.solver.strategies.prices import Prices
from hams_scheduler.solver.time_budget import Budget

LOWER = 0.7
"""Where T goes between the bound and the cycle that was reached."""
GROWTH, DECAY = 1.5, 0.99
"""How the weight of a device grows where no step helps, and how much of all growth is left after that."""
PATIENCE = 5
"""Steps per device before T is raised."""
VAIN = 60
"""How often T is raised without a shorter cycle before the search ends."""
LEAST_PRICE = 1e-3
"""Of a second, relative to the mean: a device with time left is not free."""
ROUNDING = 1e-9
"""What a step must save at least, relative to what a device pays in T."""


class Levelling(local_search.Search):
    """A placement with what its models pay; `problem` must be plain.

    `pi` is D prices per second, what weights begin at; `table` M×D what models pay where.
    """

    def __init__(self, problem: Problem, assign: IntArray, pi: FloatArray, table: FloatArray) -> None:
        start = local_search.Search.of(problem, assign)
        super().__init__(problem, start.assign, start.loads, start.room)
        self.pi, self.table = pi, table
        self.least: FloatArray = self.table.min(axis=1)
        index = np.arange(len(assign))
        self.cost: FloatArray = problem.cost[index, assign]
        self.paid: FloatArray = self.table[index, assign]

    @staticmethod
    def at(problem: Problem, assign: IntArray, at: Prices) -> Levelling:
        """Begin at `assign`, with the prices of devices."""
        pi = np.maximum(at.pi, LEAST_PRICE * float(at.pi.mean()))
        return Levelling(problem, assign, pi, prices.priced(problem, at.pi, at.mu))

    def put(self, row: int, column: int) -> None:
        """Move one model."""
        super().put(row, column)
        self.cost[row], self.paid[row] = self.problem.cost[row, column], self.table[row, column]

    def run(self, lower: float, budget: Budget) -> IntArray:
        """Return the best placement found before the budget ends; `lower` is a bound on its cycle, s."""
        best, least, vain, turn = self.assign.copy(), self.cycle, 0, 0
        aim, weight, since = lower + LOWER * (least - lower), self.pi.copy(), 0
        while vain < VAIN and not budget.over() and least > lower * (1 + ROUNDING):
            full = int(((self.loads - aim) * weight).argmax())
            since += 1
            if not self.waste_less(full, aim, weight):
                weight[full] *= GROWTH
                turn = (turn + 1) % len(weight)
                self.waste_less(turn, aim, weight)
                weight = self.pi + (weight - self.pi) * DECAY
            if self.cycle < least * local_search.SHRINK:
                best, least, vain = self.assign.copy(), self.cycle, 0
            if self.cycle <= aim * (1 + ROUNDING):
                aim, weight, since = lower + LOWER * (least - lower), self.pi.copy(), 0
            elif since > PATIENCE * len(weight):
                aim, weight, since, vain = (aim + least) / 2, self.pi.copy(), 0, vain + 1
        return best

    def waste_less(self, full: int, aim: float, weight: FloatArray) -> bool:
        """Make the best move or swap of a model on `full`; False when none lowers what is paid and the penalties."""
        here = np.nonzero(self.assign == full)[0]
        if not len(here):
            return False
        late = np.maximum(0.0, self.loads - aim) * weight
        move, to = self._least_move(here, full, aim, weight, late)
        swap, other = self._least_swap(here, full, aim, weight, late)
        if min(move[0], swap[0]) >= -ROUNDING * aim * float(self.pi.mean()):
            return False
        if move[0] <= swap[0]:
            self.put(int(here[move[1]]), to)
        else:
            back = int(self.assign[other])
            self.put(int(here[swap[1]]), back)
            self.put(other, full)
        return True

    def _least_move(
        self, here: IntArray, full: int, aim: float, weight: FloatArray, late: FloatArray
    ) -> tuple[tuple[float, int], int]:
        """Return the change of what is paid, which of `here` moves, and the device it moves to."""
        problem, table = self.problem, self.table[here]
        after = np.maximum(self.loads + problem.cost[here] - aim, 0.0) * weight + table - late
        if problem.tight:
            after[problem.memory[here] > self.room] = np.inf
        after[:, full] = np.inf
        left = np.maximum(0.0, self.loads[full] - problem.cost[here, full] - aim)
        after += (weight[full] * left - late[full] - table[:, full])[:, None]
        one, to = divmod(int(after.argmin()), len(weight))
        return (float(after[one, to]), one), to

    def _least_swap(
        self, here: IntArray, full: int, aim: float, weight: FloatArray, late: FloatArray
    ) -> tuple[tuple[float, int], int]:
        """Return the change of what is paid, which of `here` goes, and the model that comes for it."""
        problem = self.problem
        gone = self.table[here, full]
        more = self.table[:, full] - self.paid - late[self.assign]  # of a model that comes, without its successor
        gain = late[full] + float((gone - self.least[here]).max())
        others = np.nonzero((more < gain) & (self.assign != full))[0]
        if not len(others):
            return (np.inf, 0), 0
        at = self.assign[others]
        after = np.take(problem.cost[here], at, axis=1)
        after += self.loads[at] - self.cost[others] - aim
        np.maximum(after, 0.0, out=after)
        after *= weight[at]
        after += np.take(self.table[here], at, axis=1)
        after += more[others]
        mine = (self.loads[full] - problem.cost[here, full] - aim)[:, None] + problem.cost[others, full]
        after += np.maximum(mine, 0.0) * weight[full]
        after -= (gone + late[full])[:, None]
        if problem.tight:
            space = self.room[at] + problem.memory[others, at]
            after[np.take(problem.memory[here], at, axis=1) > space] = np.inf
            own = self.room[full] + problem.memory[here, full]
            after[problem.memory[others, full] > own[:, None]] = np.inf
        one, other = divmod(int(after.argmin()), len(others))
        return (float(after[one, other]), one), int(others[other])
