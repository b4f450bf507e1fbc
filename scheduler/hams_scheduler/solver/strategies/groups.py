"""Several groups: the next-worst group too, and priorities when not all targets can be met.

The strategies maximise the smallest achieved/target, which one bottleneck decides; among placements with the same
smallest value the next smallest counts, and so on (lexicographic max-min). When no placement meets every target, the
groups of the highest priority come first, up to their targets, then those of the next, then what is left is shared.
Scores are those of :func:`objective.group_rates`, so the comparison is by the rates that will be served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import Instance, IntArray, Problem
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies.local_search import climb
from hams_scheduler.solver.time_budget import Budget

Solve = Callable[[Problem, Budget], Answer]

FAINT = 1e-3
"""Weight of the groups that a priority passes over while those above it are placed."""
DIGITS = 9
"""Ratios are compared to so many digits, so that rounding decides nothing."""


def levels(instance: Instance) -> list[int]:
    """Return the priorities in use, the highest first."""
    return sorted({instance.priorities.get(name, 0) for name in instance.group_names}, reverse=True)


def score(instance: Instance, problem: Problem, assign: IntArray) -> tuple[float, ...]:
    """Return achieved/target: by priority up to 1, smallest first; then of all groups, smallest first."""
    rates = objective.group_rates(instance, problem, objective.shares_of(problem, assign))
    ratio = {name: rate / instance.target(name) for name, rate in rates.items()}
    parts: list[float] = []
    for level in levels(instance):
        mine = [ratio[name] for name in ratio if instance.priorities.get(name, 0) == level]
        parts += sorted(min(1.0, value) for value in mine)
    parts += sorted(ratio.values())
    return tuple(round(value, DIGITS) for value in parts)


def solve(instance: Instance, problem: Problem, strategy: Solve, budget: Budget) -> Answer:
    """Return the strategy's placement, bettered for the groups that its bottleneck does not decide.

    The bound stays that of the smallest achieved/target. `optimal` is kept only while that value is.
    """
    joint = strategy(problem, budget.part(budget.left() * 0.5))
    first = joint.shares.argmax(axis=1)
    options = [np.asarray(first, dtype=np.int64)]
    order = levels(instance)
    priority = np.array([instance.priorities.get(instance.group_of(model), 0) for model in instance.models])
    if objective.cycle(problem, options[0]) > 1.0:  # some target is missed
        for level in order[:-1]:
            weight = np.where(priority >= level, 1.0, FAINT)
            hosts = problem.hosts and replace(problem.hosts, cpu=problem.hosts.cpu * weight[:, None])
            faint = replace(problem, cost=problem.cost * weight[:, None], links=None, hosts=hosts)
            answer = strategy(faint, budget.part(budget.left() * 0.3))
            options.append(np.asarray(answer.shares.argmax(axis=1), dtype=np.int64))
    start = max(options, key=lambda assign: score(instance, problem, assign))
    best = climb(problem, start, lambda assign: score(instance, problem, assign), budget)
    length = objective.cycle(problem, best)
    same = length <= objective.cycle(problem, options[0]) * (1 + 1e-9)
    return Answer.of(problem, best, joint.bound, optimal=joint.optimal and same, notes=joint.notes)
