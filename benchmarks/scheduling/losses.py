"""Planning again after a device is lost: how many nodes move, against the proven fewest, and how long it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from benchmarks.scheduling.generate import generate
from hams_scheduler.solver.instance import Instance, IntArray, NoPlacementError, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.placement import assignment_rows
from hams_scheduler.solver.replan import TOLERANCE, replan
from hams_scheduler.solver.strategies.registry import solve


def fewest(problem: Problem, current: IntArray, limit: float) -> int:
    """No placement with a cycle of at most `limit` seconds moves fewer nodes: proven by HiGHS in at most 20 s."""
    rows, columns = np.nonzero(np.isfinite(problem.cost) & (problem.cost <= limit))
    index, (models, devices) = np.arange(len(rows)), problem.shape
    once = csr_array((np.ones(len(rows)), (rows, index)), shape=(models, len(rows)))
    time_ = csr_array((problem.cost[rows, columns] / limit, (columns, index)), shape=(devices, len(rows)))
    memory = np.where(np.isfinite(problem.capacity), problem.memory / np.maximum(problem.capacity, 1e-9), 0.0)
    held = csr_array((memory[rows, columns], (columns, index)), shape=(devices, len(rows)))
    found = milp(
        (current[rows] != columns).astype(float),
        integrality=np.ones(len(rows)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, 1, 1), *(LinearConstraint(a, -np.inf, 1 + 1e-9) for a in (time_, held))],
        options={"time_limit": 20},
    )
    return math.ceil(found.mip_dual_bound - 1e-6)


def replanning(instances: Iterable[Instance]) -> dict[str, float]:
    """A device is lost: nodes moved, against a placement from scratch and the proven fewest."""
    moves, fresh, forced, least = [], [], [], []
    for instance in instances:
        kept = [i for i in range(8) if i != 3]
        rest = instance.replace(
            devices=tuple(instance.devices[i] for i in kept),
            fps=instance.fps[:, kept],
            capacity_mib=instance.capacity_mib[kept],
        )
        if not (rest.fps > 0).any(axis=1).all():
            continue
        try:
            before, after = (solve(one, "optimal", time_limit_s=1, clock=time.process_time) for one in (instance, rest))
        except NoPlacementError:
            continue
        current, reference = assignment_rows(rest, before.shares), assignment_rows(rest, after.shares)
        problem = Problem.of(rest)
        result = replan(problem, current, reference)
        least.append(fewest(problem, current, cycle(problem, reference) * TOLERANCE))
        moves.append(int((result != current).sum()))
        fresh.append(int((reference != current).sum()))
        forced.append(int((current < 0).sum()))
    return {
        "moves": float(np.mean(moves)),
        "from_scratch": float(np.mean(fresh)),
        "forced": float(np.mean(forced)),
        "fewest": float(np.mean(least)),
        "moves_over_fewest": sum(moves) / sum(least),
        "moves_over_fewest_worst": max(one / few for one, few in zip(moves, least, strict=True) if few),
    }


def seconds() -> float:
    """The CPU time of one change at 100×20, s."""
    instance = generate(100, 20, 0, memory="none")
    problem = Problem.of(instance)
    reference = assignment_rows(instance, solve(instance, "hfs").shares)
    current = reference.copy()
    current[current == 3] = -1
    begin = time.process_time()
    replan(problem, current, reference)
    return time.process_time() - begin
