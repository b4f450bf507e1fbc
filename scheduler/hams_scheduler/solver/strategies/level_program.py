"""What several groups can reach together with whole nodes, as a mixed-integer program, by HiGHS through scipy.

The rates are variables, so that groups need not run in proportion to their targets. With `y` the rate (over target) at
which a pair of node m and device d works, and `r` that of a group,

    sum_d y_md = r_g(m),   sum_m c_md y_md ≤ 1 for each device,   fixed_gh r_g + sum cpu_md y_md ≤ 1 for each host,
    low_g z_md ≤ y_md ≤ high_g z_md,   sum_d z_md = 1,   sum_m mem_md z_md ≤ cap_d

where `z` is 0 or 1, and `low` and `high` limit the group's rate. The sum of the k
smallest of the rates is `max_t k t - sum_j (t - r_j)⁺`, which is linear (Ogryczak and Śliwiński, *On direct methods for
lexicographic min-max optimization*, 2006), so a level and those before it are rows. Links and count-dependent slowdown
only make plans slower: bounds hold without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import FloatArray, Instance, IntArray, Problem
from hams_scheduler.solver.levels import Stage
from hams_scheduler.solver.strategies.linear_rows import LinearRows
from hams_scheduler.solver.strategies.silence_stdout import silence_stdout

LOOSE = 1e-6
"""By how much, relatively, conditions are loosened and bounds raised: HiGHS's tolerances are absolute, 1e-7."""


@dataclass(frozen=True)
class Condition:
    """The sum of the `rank` smallest ratios of a stage's groups, and what it is at least."""

    stage: Stage
    rank: int
    least: float


@dataclass(frozen=True, eq=False)
class Found:
    """The most that a sum of smallest ratios can be, and the placement (M device rows) of the best solution, if any."""

    most: float
    assign: IntArray | None = None


class LevelProgram:
    """The rates of one problem's groups (G), in units of the ratio `unit`: HiGHS's tolerances are absolute."""

    def __init__(self, instance: Instance, problem: Problem, *, unit: float) -> None:
        self.problem, self.unit = problem, unit
        self.group = objective.group_rows(instance)
        self.groups = len(instance.group_names)
        rows, columns = np.nonzero(np.isfinite(problem.cost))
        self.rows, self.columns = rows.astype(np.int64), columns.astype(np.int64)
        self.cost = problem.cost[rows, columns] * unit

    def tops(self, *, whole: bool) -> FloatArray:
        """Return by group (G) the ratio that it has at most with all devices to itself, of whole nodes or of shares."""
        speed = np.zeros(self.problem.shape)
        speed[self.rows, self.columns] = self.unit / self.cost
        alone = speed.max(axis=1) if whole else speed.sum(axis=1)
        top = np.full(self.groups, np.inf)
        np.minimum.at(top, self.group, alone)
        if self.problem.hosts is not None:
            top = np.minimum(top, 1.0 / np.maximum(self.problem.hosts.fixed.max(axis=1), 1e-300))
        return top

    def better(self, before: Sequence[Condition], goal: Condition, top: float, seconds: float) -> Found:
        """Look for whole nodes with a larger sum than `goal.least` under the conditions `before`.

        `top` is a ratio that no group needs to exceed for it. The result's `most` is a bound on the sum.
        """
        low, high = self._limits([*before, goal], top)
        lines, width = self._reachable(low, high)
        pairs = len(self.rows)
        open_ = self.cost * low[self.group[self.rows]] <= 1 + LOOSE  # a pair that is too slow for its group is not used
        upper = [np.full(pairs, np.inf), high, open_.astype(np.float64)]
        for condition in before:
            width, most = self._add(lines, condition, width, condition.least * (1 - LOOSE), high)
            upper.append(most)
        begin = width
        width, most = self._add(lines, goal, width, goal.least * (1 + LOOSE), high)
        aim = np.zeros(width)
        aim[begin], aim[begin + 1 :] = -goal.rank, 1.0
        integer = np.zeros(width)
        integer[pairs + self.groups : 2 * pairs + self.groups] = 1.0
        with silence_stdout():
            found = milp(
                aim,
                integrality=integer,
                bounds=Bounds(np.zeros(width), np.concatenate([*upper, most])),
                constraints=LinearConstraint(*lines.matrix(width)),
                options={"disp": False, "time_limit": max(seconds, 0.02), "mip_rel_gap": LOOSE / 2},
            )
        if found.status == 2:  # nothing is better by more than the tolerance
            return Found(goal.least * (1 + LOOSE))
        dual = getattr(found, "mip_dual_bound", None)
        bound = np.inf if dual is None or not np.isfinite(dual) else -float(dual) * self.unit * (1 + LOOSE)
        if found.x is None:
            return Found(bound)
        table = np.full(self.problem.shape, -1.0)
        table[self.rows, self.columns] = found.x[pairs + self.groups : 2 * pairs + self.groups]
        return Found(bound, np.asarray(table.argmax(axis=1), dtype=np.int64))

    def _limits(self, conditions: Sequence[Condition], top: float) -> tuple[FloatArray, FloatArray]:
        """Return what each group's rate is at least under the conditions, and what it need not exceed, in units."""
        low, high = np.zeros(self.groups), np.zeros(self.groups)
        for condition in conditions:
            groups, last = condition.stage.groups, condition is conditions[-1]
            high[groups] = np.maximum(high[groups], min(top if last else np.inf, condition.stage.cap) / self.unit)
            if condition.rank == 1:
                low[groups] = np.maximum(low[groups], condition.least * (1 - LOOSE) / self.unit)
            if np.isinf(condition.stage.cap):  # the sums before it are of smaller ratios
                high[groups] = np.minimum(high[groups], max(top, 1.0) / self.unit)
        return low, np.minimum(self.tops(whole=True) / self.unit, high * (1 + LOOSE))

    def _add(
        self, lines: LinearRows, condition: Condition, width: int, least: float, high: FloatArray
    ) -> tuple[int, FloatArray]:
        """Add the rows and variables of a sum of smallest ratios; return the new width and the variables' limits."""
        groups, rank = condition.stage.groups, condition.rank
        slack = np.arange(width + 1, width + 1 + (len(groups) if rank > 1 else 0))
        total = lines.open(1, least / self.unit, np.inf)
        lines.put(total, width, rank)
        first = lines.open(len(groups), -np.inf, 0.0)
        each = first + np.arange(len(groups))
        lines.put(each, width, 1.0)
        lines.put(each, len(self.rows) + groups, -1.0)
        if rank > 1:
            lines.put(total, slack, -1.0)
            lines.put(each, slack, -1.0)
        top = min(condition.stage.cap / self.unit, float(high[groups].max()))
        return width + 1 + len(slack), np.append(top, np.full(len(slack), np.inf))

    def _reachable(self, low: FloatArray, high: FloatArray) -> tuple[LinearRows, int]:
        """Return the rows of the rates that whole nodes can reach, and how many variables they have.

        A pair's rate is that of its group, between `low` and `high`, where the node is, and 0 elsewhere.
        """
        lines, pairs = LinearRows(), len(self.rows)
        self.balance(lines)
        index, part = np.arange(pairs), pairs + self.groups + np.arange(pairs)
        group = self.group[self.rows]
        for sign, limit in ((1.0, np.minimum(high[group], 1.0 / self.cost)), (-1.0, low[group])):
            each = lines.open(pairs, -np.inf, 0.0)
            lines.put(each + index, index, sign)
            lines.put(each + index, part, -sign * limit)
        once = lines.open(self.problem.shape[0], 1.0, 1.0)
        lines.put(once + self.rows, part, 1.0)
        if self.problem.tight:
            self.memory(lines, part, np.ones(pairs))
        return lines, 2 * pairs + self.groups

    def memory(self, lines: LinearRows, columns: IntArray, part: FloatArray) -> None:
        """Add the rows of devices' memory: each pair (P) holds its own times `part` of the variable in `columns`."""
        need, capacity = self.problem.memory[self.rows, self.columns], self.problem.capacity
        scale = np.where(np.isfinite(capacity), np.maximum(capacity, 1e-9), need.sum() + 1.0)
        room = lines.open(self.problem.shape[1], -np.inf, np.where(np.isfinite(capacity), capacity / scale, 1.0) + 1e-9)
        lines.put(room + self.columns, columns, part * need / scale[self.columns])

    def balance(self, lines: LinearRows, slowdown: FloatArray | None = None) -> None:
        """Add the rows of nodes, devices and hosts."""
        (models, devices), pairs = self.problem.shape, len(self.rows)
        index = np.arange(pairs)
        nodes = lines.open(models, 0.0, 0.0)
        lines.put(nodes + self.rows, index, 1.0)
        lines.put(nodes + np.arange(models), pairs + self.group, -1.0)
        busy = lines.open(devices, -np.inf, 1.0)
        lines.put(busy + self.columns, index, self.cost if slowdown is None else self.cost * slowdown[self.columns])
        table = self.problem.hosts
        if table is not None:
            spent = lines.open(len(table.names), -np.inf, 1.0)
            lines.put(spent + table.host[self.columns], index, table.cpu[self.rows, self.columns] * self.unit)
            for host in range(len(table.names)):
                lines.put(spent + host, pairs + np.arange(self.groups), table.fixed[:, host] * self.unit)
