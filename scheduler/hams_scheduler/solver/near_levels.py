"""Re-planning several groups when targets are missed: few moves, and who gives way is as in the reference. Pure.

:mod:`replan` looks at the longest cycle alone. Where targets cannot be met, a placement with nearly the same cycle may
leave a group with nothing that the reference gives its part. Then the reference is taken, and its nodes go back to
their devices one by one while no level up to the targets falls by more than the tolerance.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver import levels, objective
from hams_scheduler.solver.instance import FloatArray, Instance, IntArray, Problem
from hams_scheduler.solver.replan import TOLERANCE, replan
from hams_scheduler.solver.strategies.packing import fits

TRIED = 2_000_000
"""Nodes that are sent back, times M×D, at most: each costs the rates of all groups."""


def near(instance: Instance, problem: Problem, current: IntArray, reference: IntArray) -> IntArray:
    """Return M device rows as :func:`replan`, whose levels up to the targets are about those of `reference`."""
    rows = replan(problem, current, reference)
    if len(instance.group_names) == 1:
        return rows
    wanted = _parts(instance, problem, reference)
    if _as_good(wanted, _parts(instance, problem, rows)):
        return rows
    rows = reference.copy()
    away = np.nonzero((rows != current) & (current >= 0))[0]
    for row in away[: max(10, TRIED // problem.cost.size)]:
        back = rows.copy()
        back[row] = current[row]
        if fits(problem, back) and _as_good(wanted, _parts(instance, problem, back)):
            rows = back
    return rows


def _parts(instance: Instance, problem: Problem, rows: IntArray) -> FloatArray:
    """Return the parts of their targets that groups get, by priority, the smallest first."""
    ratio = levels.ratios(instance, problem, objective.shares_of(problem, rows))
    return np.concatenate([stage.values(ratio) for stage in levels.stages(instance)[:-1]])


def _as_good(wanted: FloatArray, parts: FloatArray) -> bool:
    """Whether the first part that differs by more than the tolerance is larger than wanted."""
    for want, part in zip(wanted.tolist(), parts.tolist(), strict=True):
        if max(want, part) > min(want, part) * TOLERANCE + 1e-9:
            return bool(part > want)
    return True
