"""Shares for several groups, level by level: the linear program of each level on given replicas.

With shares the rates that groups can reach are a convex set. There the smallest ratio is raised as far as it goes;
groups whose rows have a dual price can get no more in any optimal solution and are fixed, the others are raised
further (Nace and Pióro, *Max-min fairness and its applications to routing and load-balancing in communication
networks*, 2008). Groups of the highest priority come first, up to their targets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linprog

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, Instance, Problem
from hams_scheduler.solver.levels import stages
from hams_scheduler.solver.strategies.level_program import LevelProgram
from hams_scheduler.solver.strategies.linear_rows import LinearRows
from hams_scheduler.solver.strategies.replicated import LEAST_SHARE
from hams_scheduler.solver.time_budget import Budget

PRICED = 1e-6
"""Dual prices of a level add up to 1; above this a group is fixed."""
FIXED = 1e-7
"""A level that is fixed is loosened by this part of it."""


def filled(instance: Instance, problem: Problem, used: np.ndarray, unit: float, budget: Budget) -> FloatArray | None:
    """Return the best M×D shares on the replicas `used` (M×D), level by level; None: not in time.

    Memory is not looked at where the replicas are whole; where they do not fit, each share holds its part of it.
    """
    fits = (np.where(used, problem.memory, 0.0).sum(axis=0) <= problem.capacity + SLACK_MIB).all()
    part = replace(problem, cost=np.where(used, problem.cost, np.inf), links=None)
    program = LevelProgram(instance, part, unit=unit)
    count = used.sum(axis=0)
    slower = None if problem.slowdown is None else problem.slowdown[np.arange(len(count)), count]
    floor = np.zeros(program.groups)
    rates = None
    all_stages = stages(instance)
    for stage in all_stages:
        active = np.isin(np.arange(program.groups), stage.groups)
        if stage is all_stages[-1]:
            active &= floor >= (1 - 1e-6) / unit
        while active.any():
            found = _raise(program, active, floor, min(stage.cap / unit, 1e9), slower, not fits, budget)
            if found is None:
                break
            rates, least, priced = found
            done = active & priced
            floor[active] = np.maximum(floor[active], least * (1 - FIXED))
            active &= ~(done if done.any() else active)
            if least >= stage.cap / unit * (1 - FIXED):
                break
    return None if rates is None else _shares(program, rates, used)


def _raise(
    program: LevelProgram,
    active: np.ndarray,
    floor: FloatArray,
    cap: float,
    slower: FloatArray | None,
    memory: bool,
    budget: Budget,
) -> tuple[FloatArray, float, np.ndarray] | None:
    """Return the pairs' rates, the smallest rate of the active groups, and which groups hold it back (G)."""
    if budget.over():
        return None
    lines, pairs = LinearRows(), len(program.rows)
    program.balance(lines, slower)
    if memory:
        program.memory(lines, np.arange(pairs), program.cost)
    least = pairs + program.groups
    groups = np.nonzero(active)[0]
    rows = lines.open(len(groups), -np.inf, 0.0) + np.arange(len(groups))
    lines.put(rows, least, 1.0)
    lines.put(rows, pairs + groups, -1.0)
    table, low, high = lines.matrix(least + 1)
    same = low == high
    aim = np.zeros(least + 1)
    aim[-1] = -1.0
    bottom, top = np.concatenate([np.zeros(pairs), floor, [0.0]]), np.append(np.full(least, np.inf), cap)
    limits = np.column_stack([bottom, top])
    found = linprog(
        aim,
        *(table[~same], high[~same], table[same], high[same]),
        bounds=limits,
        method="highs-ds",
        options={"time_limit": max(budget.left(), 0.02), "disp": False},
    )
    if found.x is None or found.status != 0:
        return None
    priced = np.zeros(program.groups, dtype=bool)
    priced[groups] = -np.asarray(found.ineqlin.marginals)[-len(groups) :] > PRICED
    return np.asarray(found.x[:pairs]), float(found.x[-1]), priced


def _shares(program: LevelProgram, rates: FloatArray, used: np.ndarray) -> FloatArray:
    """Return shares in proportion to the pairs' rates; of a node that gets nothing, all on its first replica."""
    shares = np.zeros(program.problem.shape)
    shares[program.rows, program.columns] = np.where(rates < 1e-9, 0.0, rates)
    idle = shares.sum(axis=1) <= 0
    shares[idle, used[idle].argmax(axis=1)] = 1.0
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def fitting(problem: Problem, base: np.ndarray, wanted: FloatArray) -> np.ndarray:
    """Return the replicas `base` (M×D) and those of `wanted` (M×D shares) that fit beside them, the largest first."""
    used = base.copy()
    room = problem.capacity + SLACK_MIB - np.where(used, problem.memory, 0.0).sum(axis=0)
    for flat in np.argsort(-wanted, axis=None, kind="stable"):
        row, column = divmod(int(flat), problem.shape[1])
        if wanted[row, column] < LEAST_SHARE:
            break
        if not used[row, column] and problem.memory[row, column] <= room[column]:
            used[row, column] = True
            room[column] -= problem.memory[row, column]
    return used
