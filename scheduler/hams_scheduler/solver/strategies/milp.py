"""Mixed-integer programs, by HiGHS through scipy: whether a placement fits at all, and the shortest cycle.

HiGHS (Huangfu and Hall, *Parallelizing the dual revised simplex method*, 2018) is set to be silent (``disp=False``),
yet some versions print a stray line while they look for placements; :mod:`silence_stdout` keeps it off stdout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from hams_scheduler.solver.instance import FloatArray, IntArray, NoPlacementError, Problem
from hams_scheduler.solver.strategies import lp
from hams_scheduler.solver.strategies.silence_stdout import silence_stdout

PACK_LIMIT_S = 5.0
"""How long the search for any placement that fits may take, s."""


@dataclass(frozen=True)
class MilpResult:
    """What HiGHS found within its time."""

    assign: IntArray | None
    """M device rows, or None when it found no placement."""
    bound: float
    """No placement has a shorter cycle, seconds per frame (over target)."""
    proven: bool
    """Whether `assign` is optimal to the tolerance asked for."""


def pack(problem: Problem) -> IntArray | None:
    """Return some placement that keeps support and memory, or None when there is none.

    Raises NoPlacementError, with that reason, when neither is known after `PACK_LIMIT_S`.
    """
    rows, columns = _pairs(problem)
    constraints = [_each_once(problem, rows), _memory(problem, rows, columns)]
    if problem.one_per_device:
        constraints.append(_one_per_device(problem, columns))
    with silence_stdout():
        found = milp(
            np.zeros(len(rows)),
            integrality=np.ones(len(rows)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"disp": False, "time_limit": PACK_LIMIT_S},
        )
    if found.x is None and found.status == 1:
        raise NoPlacementError(
            f"no placement that fits into the devices' memory was found in {PACK_LIMIT_S:g} s; there may be one"
        )
    return None if found.x is None else _assignment(problem, rows, columns, np.asarray(found.x))


def shortest_cycle(problem: Problem, upper: float, lower: float, seconds: float, gap: float = 1e-6) -> MilpResult:
    """Minimise the longest device or host cycle; for problems without links and count-dependent slowdown.

    `upper` is a cycle already reached: pairs that alone cost more are left out. `lower` is a proven bound.
    """
    rows, columns = _pairs(problem, most=upper * (1 + 1e-9))
    if len(np.unique(rows)) < problem.shape[0] or seconds <= 0:
        return MilpResult(None, lower, False)
    count = len(rows)
    loads = lp.time_rows(problem, rows, columns, upper)  # scaled: HiGHS works with absolute tolerances
    cycle = csr_array(-np.ones((problem.resources, 1)))
    most = 0.0 if problem.hosts is None else np.append(np.zeros(problem.shape[1]), -problem.hosts.base / upper)
    constraints = [
        _widened(_each_once(problem, rows)),
        _widened(_memory(problem, rows, columns)),
        LinearConstraint(_side_by_side(loads, cycle), -np.inf, most),
    ]
    if problem.one_per_device:
        constraints.append(_widened(_one_per_device(problem, columns)))
    with silence_stdout():
        found = milp(
            np.append(np.zeros(count), 1.0),
            integrality=np.append(np.ones(count), 0),
            bounds=Bounds(np.append(np.zeros(count), lower / upper), np.append(np.ones(count), 1.0 + 1e-9)),
            constraints=constraints,
            options={"disp": False, "time_limit": seconds, "mip_rel_gap": gap},
        )
    dual = getattr(found, "mip_dual_bound", None)
    bound = lower if dual is None or not np.isfinite(dual) else max(lower, float(dual) * upper * (1 - 1e-7))
    if found.x is None:
        proven = found.status == 2  # infeasible: nothing is shorter than `upper`
        return MilpResult(None, upper * (1 - 1e-9) if proven else bound, proven)
    return MilpResult(_assignment(problem, rows, columns, np.asarray(found.x)[:-1]), bound, found.status == 0)


def _pairs(problem: Problem, most: float = np.inf) -> tuple[IntArray, IntArray]:
    """Return rows and columns of the pairs that may be used."""
    rows, columns = np.nonzero(np.isfinite(problem.cost) & (problem.cost <= most))
    return rows.astype(np.int64), columns.astype(np.int64)


def _each_once(problem: Problem, rows: IntArray) -> LinearConstraint:
    count = len(rows)
    return LinearConstraint(
        csr_array((np.ones(count), (rows, np.arange(count))), shape=(problem.shape[0], count)), 1, 1
    )


def _memory(problem: Problem, rows: IntArray, columns: IntArray) -> LinearConstraint:
    count = len(rows)
    need = problem.memory[rows, columns]
    capacity = np.where(np.isfinite(problem.capacity), problem.capacity, need.sum() + 1.0)
    scale = np.maximum(capacity, 1e-9)
    table = csr_array((need / scale[columns], (columns, np.arange(count))), shape=(problem.shape[1], count))
    return LinearConstraint(table, -np.inf, capacity / scale)


def _one_per_device(problem: Problem, columns: IntArray) -> LinearConstraint:
    count = len(columns)
    table = csr_array((np.ones(count), (columns, np.arange(count))), shape=(problem.shape[1], count))
    return LinearConstraint(table, -np.inf, 1)


def _side_by_side(left: csr_array, right: csr_array) -> csr_array:
    return csr_array(vstack([left.T, right.T]).T)


def _widened(constraint: LinearConstraint) -> LinearConstraint:
    """The same constraint with one more variable, the cycle, which it does not mention."""
    table = csr_array(constraint.A)
    return LinearConstraint(_side_by_side(table, csr_array((table.shape[0], 1))), constraint.lb, constraint.ub)


def _assignment(problem: Problem, rows: IntArray, columns: IntArray, x: FloatArray) -> IntArray:
    """Read the device of each row off the solution: the pair with the largest value."""
    table = np.full(problem.shape, -1.0)
    table[rows, columns] = x
    return np.asarray(table.argmax(axis=1), dtype=np.int64)
