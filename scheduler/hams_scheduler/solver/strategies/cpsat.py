"""The shortest cycle by OR-tools' CP-SAT, where that is installed (``pip install ortools``); HAMS does not need it.

CP-SAT needs integers: costs are scaled to `UNITS` per incumbent cycle and rounded down, so that the bound it proves
holds for the real costs; placements are judged by the real costs.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from hams_scheduler.solver.instance import Problem
from hams_scheduler.solver.strategies.milp import MilpResult
from hams_scheduler.solver.strategies.silence_stdout import silence_stdout

UNITS = 100_000_000
"""Rounding down a hundred costs then changes a cycle by less than what counts as proven."""


def available() -> bool:
    """Whether OR-tools can be imported."""
    return importlib.util.find_spec("ortools") is not None


def shortest_cycle(problem: Problem, upper: float, lower: float, seconds: float) -> MilpResult:
    """Minimise the longest device cycle of a plain problem; arguments and result as in :func:`milp.shortest_cycle`."""
    from ortools.sat.python import cp_model

    models, devices = problem.shape
    usable = problem.cost <= upper * (1 + 1e-9)
    if not usable.any(axis=1).all() or seconds <= 0:
        return MilpResult(None, lower, False)
    units = np.floor(np.where(usable, problem.cost, 0.0) / upper * UNITS).astype(np.int64)
    memory = np.floor(problem.memory * 1024).astype(np.int64)  # KiB, rounded down: what fits still fits
    model = cp_model.CpModel()
    x = {(m, d): model.new_bool_var("") for m in range(models) for d in range(devices) if usable[m, d]}
    cycle = model.new_int_var(int(lower / upper * UNITS * (1 - 1e-9)), UNITS, "cycle")
    for m in range(models):
        model.add_exactly_one(x[m, d] for d in range(devices) if (m, d) in x)
    for d in range(devices):
        here = [m for m in range(models) if (m, d) in x]
        model.add(sum(int(units[m, d]) * x[m, d] for m in here) <= cycle)
        if np.isfinite(problem.capacity[d]):
            model.add(sum(int(memory[m, d]) * x[m, d] for m in here) <= int(problem.capacity[d] * 1024) + 1)
    model.minimize(cycle)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    solver.parameters.random_seed = 0
    solver.parameters.log_search_progress = False
    with silence_stdout():
        status = solver.solve(model)
    bound = max(lower, min(solver.best_objective_bound, UNITS) / UNITS * upper * (1 - 1e-9))
    if status == cp_model.INFEASIBLE:  # with every cost rounded down: nothing is as short as `upper`
        return MilpResult(None, upper * (1 - 1e-9), True)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return MilpResult(None, bound, False)
    assign = np.array(
        [next(d for d in range(devices) if (m, d) in x and solver.boolean_value(x[m, d])) for m in range(models)]
    )
    return MilpResult(assign, bound, False)
