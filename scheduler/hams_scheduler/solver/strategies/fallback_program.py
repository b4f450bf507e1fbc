"""Placements with a fallback for each node, as a mixed-integer program, by HiGHS through scipy.

`x_md` puts node m on device d, `w_mde` lets it fall back to e when d is lost; all other nodes stay. With P the costs,
and Q those at the rates that must be kept,

    sum_d x_md = 1,   sum_e w_mde = x_md,   sum_m P_md x_md ≤ T,
    sum_m Q_me (x_me + w_mde) ≤ L   for each lost d and each e beside it (hosts' cores likewise),
    sum_m mem_me (x_me + w_mde) ≤ cap_e   for each d and e, or with memory reserved for all fallbacks at once

The first question is for the least T with L = 1, the second for the least L. LP and branch-and-bound give the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies.linear_rows import LinearRows
from hams_scheduler.solver.strategies.silence_stdout import silence_stdout

MOST_FALLBACKS = 12_000
"""Most triples of node, device and fallback that are handed to HiGHS."""


@dataclass(frozen=True, eq=False)
class Fallbacks:
    """M device rows, M fallback rows (None: no solution), and a bound on what was asked for, in its unit.

    `none` says that there is none.
    """

    assign: IntArray | None
    fallback: IntArray | None
    bound: float
    none: bool = False


class FallbackProgram:
    """`problem` has the costs without a loss, `kept` those at the rates that must be kept after one."""

    def __init__(self, problem: Problem, kept: Problem, *, reserve: bool) -> None:
        self.problem, self.kept, self.reserve = problem, kept, reserve
        rows, columns = np.nonzero(np.isfinite(problem.cost))
        self.rows, self.columns = rows, columns
        pair, to = np.nonzero(np.isfinite(problem.cost)[rows])
        other = to != columns[pair]
        self.pair, self.to = pair[other], to[other]

    @property
    def small(self) -> bool:
        """Whether HiGHS has a chance."""
        return len(self.pair) <= MOST_FALLBACKS

    def shortest(self, upper: float, seconds: float) -> Fallbacks:
        """Return the placement with the shortest cycle, at most `upper` s, that keeps the rates, and a bound."""
        return self._solve(upper, 1.0, seconds, keep=True)

    def safest(self, upper: float, seconds: float) -> Fallbacks:
        """Return the placement that keeps most; the bound is the least L, of which `upper` was reached."""
        return self._solve(1.0, upper, seconds, keep=False)

    def _solve(self, cycle: float, loss: float, seconds: float, *, keep: bool) -> Fallbacks:
        pairs, falls = len(self.rows), len(self.pair)
        time, width = pairs + falls, pairs + falls + 1
        if not falls or seconds <= 0:
            return Fallbacks(None, None, 0.0)
        lines = self._rows()
        self._loads(lines, self.problem, None, 1.0 / cycle, time if keep else None) if keep else None
        for device in range(self.problem.shape[1]):
            self._loads(lines, self.kept, device, 1.0 / loss, None if keep else time)
        aim = np.zeros(width)
        aim[time] = 1.0
        integer = np.ones(width)
        integer[[*range(pairs), time]] = 0.0  # x is whole where w is
        with silence_stdout():
            found = milp(
                aim,
                integrality=integer,
                bounds=Bounds(np.zeros(width), np.append(np.ones(pairs + falls), 1.0 + 1e-9)),
                constraints=LinearConstraint(*lines.matrix(width)),
                options={"disp": False, "time_limit": max(seconds, 0.02), "mip_rel_gap": 1e-6},
            )
        unit = cycle if keep else loss
        dual = getattr(found, "mip_dual_bound", None)
        bound = 0.0 if dual is None or not np.isfinite(dual) else max(0.0, float(dual)) * unit * (1 - 1e-6)
        if found.x is None:
            return Fallbacks(None, None, unit if found.status == 2 else bound, found.status == 2)
        return Fallbacks(*self._read(found.x), bound)

    def _read(self, x: FloatArray) -> tuple[IntArray, IntArray]:
        best = np.full(self.problem.shape[0], -1.0)
        assign, fallback = np.zeros(len(best), dtype=np.int64), np.zeros(len(best), dtype=np.int64)
        for index, value in enumerate(x[len(self.rows) : len(self.rows) + len(self.pair)]):
            row = self.rows[self.pair[index]]
            if value > best[row]:
                best[row], assign[row], fallback[row] = value, self.columns[self.pair[index]], self.to[index]
        return assign, fallback

    def _rows(self) -> LinearRows:
        """Return the rows of nodes, fallbacks and memory."""
        lines, (models, devices), pairs = LinearRows(), self.problem.shape, len(self.rows)
        index, falls = np.arange(pairs), pairs + np.arange(len(self.pair))
        once = lines.open(models, 1.0, 1.0)
        lines.put(once + self.rows, index, 1.0)
        follows = lines.open(pairs, 0.0, 0.0)
        lines.put(follows + index, index, -1.0)
        lines.put(follows + self.pair, falls, 1.0)
        if not np.isfinite(self.problem.capacity).any():
            return lines
        need, room = self.problem.memory, self.problem.capacity + SLACK_MIB
        for lost in range(1 if self.reserve else devices):
            here = np.ones(len(falls), dtype=bool) if self.reserve else self.columns[self.pair] == lost
            fits = lines.open(devices, -np.inf, room)
            lines.put(fits + self.columns, index, need[self.rows, self.columns])
            lines.put(fits + self.to[here], falls[here], need[self.rows[self.pair[here]], self.to[here]])
        return lines

    def _loads(self, lines: LinearRows, problem: Problem, lost: int | None, scale: float, time: int | None) -> None:
        """Limit the devices and hosts that are left, by 1 or by the variable `time`, in units of 1 / `scale`."""
        devices, pairs = problem.shape[1], len(self.rows)
        stays = np.nonzero(self.columns != (-1 if lost is None else lost))[0]
        falls = np.nonzero(self.columns[self.pair] == (-1 if lost is None else lost))[0]
        table, moved = problem.hosts, self.rows[self.pair[falls]]
        most = 1.0 if time is None else 0.0
        busy = lines.open(devices, -np.inf, most)
        cost = problem.cost * scale
        lines.put(busy + self.columns[stays], stays, cost[self.rows[stays], self.columns[stays]])
        lines.put(busy + self.to[falls], pairs + falls, cost[moved, self.to[falls]])
        if time is not None:
            lines.put(busy + np.arange(devices), time, -1.0)
        if table is None:
            return
        hosts = np.arange(len(table.names))
        spent = lines.open(len(hosts), -np.inf, most - table.base * scale)
        at, to = self.columns[stays], self.to[falls]
        lines.put(spent + table.host[at], stays, table.cpu[self.rows[stays], at] * scale)
        lines.put(spent + table.host[to], pairs + falls, table.cpu[moved, to] * scale)
        if time is not None:
            lines.put(spent + hosts, time, -1.0)
