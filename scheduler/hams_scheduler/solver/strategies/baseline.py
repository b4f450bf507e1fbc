"""Baselines that people compare with: everything on the CPU, in turn, each on its own fastest device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, IntArray, Problem
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import packing
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget


def default(problem: Problem, budget: Budget) -> Answer:
    """Every model on the first CPU device (the first device if none is a CPU), as in a program without a scheduler.

    A model that it cannot run or hold goes to the next device in order that can; the notes say which.
    """
    columns = problem.shape[1]
    first = list(problem.cpu) or [0]
    order = np.array(first[:1] + [c for c in range(columns) if c != first[0]])
    return _place(problem, budget, lambda row: order, f"default: everything on {problem.devices[order[0]]}")


def round_robin(problem: Problem, budget: Budget) -> Answer:
    """Models to devices in turn, in the order both are listed; an impossible pair goes to the next device."""
    columns = problem.shape[1]
    return _place(problem, budget, lambda row: (row + np.arange(columns)) % columns, "round-robin: in turn")


def fastest(problem: Problem, budget: Budget) -> Answer:
    """Each model on its own fastest device, blind to the others; without room, on its next fastest."""
    order = np.argsort(problem.cost, axis=1, kind="stable")
    return _place(problem, budget, lambda row: order[row], "fastest: each on its own fastest device")


def _place(problem: Problem, budget: Budget, order_of: Callable[[int], IntArray], what: str) -> Answer:
    rows = problem.shape[0]
    room = problem.capacity.copy()
    free = np.ones(problem.shape[1], dtype=bool)
    assign = np.full(rows, -1, dtype=np.int64)
    moved = []
    for row in range(rows):
        order = order_of(row)
        for rank, column in enumerate(order):
            if (
                np.isfinite(problem.cost[row, column])
                and problem.memory[row, column] <= room[column] + SLACK_MIB
                and (free[column] or not problem.one_per_device)
            ):
                assign[row] = column
                room[column] -= problem.memory[row, column]
                free[column] = False
                if rank:
                    moved.append(f"{problem.models[row]} to {problem.devices[column]}")
                break
        else:
            assign = _start(problem)
            moved = ["all (in that order they do not fit into memory)"]
            break
    notes = (what + (f"; elsewhere, for support or memory: {_some(moved)}" if moved else ""),)
    return Answer.of(problem, assign, sweep(problem, budget, 20).bound, notes=notes)


def _start(problem: Problem) -> IntArray:
    if problem.one_per_device:
        from hams_scheduler.solver.strategies import paper

        return paper.bottleneck_assignment(problem)
    return packing.feasible_start(problem)


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
