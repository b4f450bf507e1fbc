"""What each model is worth, so that the devices' best sets of models tell whether a cycle is possible.

For a cycle T let every device take its best set of models: that which is worth most among those that take T seconds at
most. If each model is placed once, the sets of a placement are together worth as much as all models, so

    slack = sum_d max_S [ sum of v_m - mu_d mem_md over S ] + sum_d mu_d cap_d - sum_m v_m  ≥  0

for any worths v ≥ 0 and prices of memory mu ≥ 0. Worths with a slack below 0 prove that no placement has a cycle of T
or less. This is the Lagrangian relaxation of "each model once" (Fisher, Jaikumar and Van Wassenhove, *A multiplier
adjustment method for the generalized assignment problem*, 1986). Unlike the LP it keeps models whole on their devices.
Good worths are found by subgradient steps, beginning at the prices of the LP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hams_scheduler.solver.instance import FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies.prices import Prices, priced
from hams_scheduler.solver.time_budget import Budget

COARSE, FINE = 500, 4000
"""Parts of the cycle in which times are counted, rounded down, so that what fits still fits."""
ROUNDING = 1e-9
"""What sums of worths, about 1, may be off by."""
AIM = 0.005
"""How far below 0 a step aims, relative to the worth of all models."""


class Knapsacks:
    """The best sets of all devices for a cycle of `limit` seconds, by dynamic programming over time in `parts`."""

    def __init__(self, problem: Problem, limit: float, parts: int) -> None:
        columns = problem.shape[1]
        fits = problem.cost <= limit
        time = np.floor(np.where(fits, problem.cost, 0.0) / limit * parts * (1 - 1e-12)).astype(np.int64)
        self.parts = parts
        self.time: IntArray = np.where(fits, time, parts + 1)
        spot = np.arange(parts + 1)[None, None, :] - self.time[:, :, None] + 1  # 0 stands for "does not fit"
        self._from = np.maximum(spot, 0) + (np.arange(columns) * (parts + 2))[None, :, None]

    def best(self, value: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return D worths of the best sets, and M×D: the models in them. `value` is M×D."""
        rows, columns = value.shape
        table = np.zeros((columns, self.parts + 2))
        table[:, 0] = -np.inf
        now = table[:, 1:]
        taken = np.empty((rows, columns, self.parts + 1), dtype=bool)
        for row in range(rows):
            with_it = table.ravel()[self._from[row]] + value[row][:, None]
            np.greater(with_it, now, out=taken[row])
            np.maximum(now, with_it, out=now)
        inside, every, left = np.zeros((rows, columns), dtype=bool), np.arange(columns), np.full(columns, self.parts)
        for row in range(rows - 1, -1, -1):
            inside[row] = taken[row, every, left]
            left = left - np.where(inside[row], self.time[row], 0)
        return now[:, -1].copy(), inside


@dataclass(frozen=True, eq=False)
class Worths:
    """M worths of models, D prices per MiB, and the slack relative to all worths; below 0 the cycle is impossible."""

    model: FloatArray
    mu: FloatArray
    slack: float

    @property
    def impossible(self) -> bool:
        """Whether the cycle is proven to be impossible."""
        return self.slack < -ROUNDING

    def value(self, problem: Problem) -> FloatArray:
        """Return M×D: what a model adds to the worth of a set on a device."""
        return np.asarray(self.model[:, None] - self.mu[None, :] * problem.memory, dtype=np.float64)

    def total(self, problem: Problem, best: FloatArray) -> float:
        """Return the slack, with `best` the D worths of the best sets."""
        return float(best.sum() + self.mu @ _capacity(problem) - self.model.sum())


def priced_worths(problem: Problem, prices: Prices) -> Worths:
    """Return what the prices of the LP say that models are worth: the least that each pays."""
    paid = priced(problem, prices.pi, prices.mu).min(axis=1)
    unit = max(float(paid.sum()), 1e-300)
    return Worths(paid / unit, prices.mu / unit, np.inf)


def better_worths(
    problem: Problem, limit: float, start: Worths, steps: int, budget: Budget, floor: float | FloatArray = 1e-9
) -> Worths:
    """Return the worths with the least slack found for a cycle of `limit` seconds; the first below 0 will do.

    No model becomes worth less than `floor` (M numbers).
    """
    now = best = Worths(np.maximum(start.model, floor), start.mu, np.inf)
    sacks, step, stale = Knapsacks(problem, limit, COARSE), 1.0, 0
    for turn in range(steps):
        if turn and budget.over():
            break
        longest, inside = sacks.best(now.value(problem))
        over = now.total(problem, longest)
        if over / now.model.sum() < best.slack - 1e-7:
            best, stale = Worths(now.model, now.mu, over / float(now.model.sum())), 0
            if best.impossible:
                break
        else:
            stale += 1
        if stale >= 5:
            step, stale, now = step * 0.6, 0, best
        else:
            now = _moved(problem, now, inside, step * (over + AIM), floor)
    return best


def _moved(
    problem: Problem, now: Worths, inside: npt.NDArray[np.bool_], size: float, floor: float | FloatArray
) -> Worths:
    """Models that several devices want are worth less, those that none wants more; full memory costs more."""
    wanted = inside.sum(axis=1) - 1.0
    model = np.maximum(now.model - size * wanted / max(1.0, float(wanted @ wanted)), floor)
    if not problem.tight:
        return Worths(model, now.mu, np.inf)
    spare = np.where(np.isfinite(problem.capacity), problem.capacity - (inside * problem.memory).sum(axis=0), 0.0)
    mu = np.maximum(0.0, now.mu - 0.5 * size * spare / max(float(spare @ spare), 1e-12))
    return Worths(model, mu, np.inf)


def _capacity(problem: Problem) -> FloatArray:
    return np.where(np.isfinite(problem.capacity), problem.capacity, 0.0)
