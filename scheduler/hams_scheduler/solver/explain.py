"""Why a node is where it is: what the group would make if that node alone were elsewhere."""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import FloatArray, Instance
from hams_scheduler.solver.problem import SLACK_MIB, Problem

FULL_TABLE = 4000
"""Up to so many pairs (M×D) every alternative is listed and counted exactly; beyond, the best three per node."""


def alternatives(problem: Problem, shares: FloatArray, scale: float) -> dict[str, dict[str, float]]:
    """Return FPS by node and other device if that node moved there whole, 0 where it does not fit.

    `scale` turns `1 / cycle` into the reported FPS.
    """
    rows, columns = problem.shape
    moved = moved_cycles(problem, shares)
    used = np.where(shares > 0, problem.memory, 0.0).sum(axis=0)
    fits = used + np.where(shares > 0, 0.0, problem.memory) <= problem.capacity + SLACK_MIB
    if problem.one_per_device:
        fits &= shares.sum(axis=0) == 0
    fps = np.where(fits & np.isfinite(moved), scale / moved, 0.0)
    whole = shares >= 1 - 1e-12
    named: dict[str, dict[str, float]] = {}
    keep = columns if rows * columns <= FULL_TABLE else 3
    order = np.argsort(np.where(whole, np.inf, -fps), axis=1, kind="stable")[:, :keep]
    for row, model in enumerate(problem.models):
        named[model] = {problem.devices[c]: float(fps[row, c]) for c in order[row] if not whole[row, c]}
    return named


def moved_cycles(problem: Problem, shares: FloatArray) -> FloatArray:
    """Return M×D: the longest cycle if a node were wholly on that device and the rest stayed.

    Exact; but count-dependent slowdown and links are only looked at up to FULL_TABLE pairs.
    """
    rows, columns = problem.shape
    if not problem.plain and rows * columns <= FULL_TABLE:
        table = np.full((rows, columns), np.inf)
        for row, column in zip(*np.nonzero(np.isfinite(problem.cost)), strict=True):
            changed = shares.copy()
            changed[row] = 0.0
            changed[row, column] = 1.0
            table[row, column] = objective.share_cycle(problem, changed)
        return table
    part = np.where(shares > 0, shares * np.where(shares > 0, problem.cost, 0.0), 0.0)
    loads = part.sum(axis=0)
    split = (shares > 0).sum(axis=1) > 1
    table = np.empty((rows, columns))
    top = np.argsort(-loads, kind="stable")[:3]
    home = shares.argmax(axis=1)
    rest = np.zeros((rows, columns))
    for column in top[::-1]:
        other = (home[:, None] != column) & (np.arange(columns)[None, :] != column)
        rest = np.where(other, loads[column], rest)
    left = loads[home] - part[np.arange(rows), home]
    table = np.maximum(np.maximum(rest, left[:, None]), loads[None, :] - part + problem.cost)
    for row in np.nonzero(split)[0]:
        without = loads - part[row]
        order = np.argsort(-without, kind="stable")
        most = np.where(np.arange(columns) == order[0], without[order[1 % columns]], without[order[0]])
        most = most if columns > 1 else np.zeros(1)
        table[row] = np.maximum(most, without + problem.cost[row])
    return np.asarray(table, dtype=np.float64)


def texts(
    instance: Instance,
    problem: Problem,
    shares: FloatArray,
    moved: dict[str, dict[str, float]],
    bottleneck: str,
    fps: float,
) -> dict[str, str]:
    """Return one sentence per node: its speed there, and what its best alternative would cost."""
    said: dict[str, str] = {}
    possible = np.isfinite(problem.cost).sum(axis=1)
    for row, model in enumerate(problem.models):
        columns = np.nonzero(shares[row] > 0)[0]
        here = [_place(instance, row, int(c), float(shares[row, c])) for c in columns]
        text = "on " + " and ".join(here)
        if any(problem.devices[c] == bottleneck for c in columns):
            text += ", the bottleneck"
        if possible[row] == 1:
            text += "; no other device can run it"
        elif model in moved:
            best = max(moved[model].items(), key=lambda item: item[1], default=("", 0.0))
            if best[1] > 0:
                change = 100 * (best[1] / fps - 1)
                text += f"; moved to {best[0]} the group would make {best[1]:.4g} frames/s ({change:+.1f} %)"
            else:
                text += "; there is no room for it elsewhere"
        said[model] = text
    return said


def _place(instance: Instance, row: int, column: int, share: float) -> str:
    alone = f"{instance.devices[column]} ({instance.fps[row, column]:.4g} frames/s alone"
    return f"{alone})" if share >= 1 - 1e-12 else f"{alone}, {100 * share:.0f} % of its frames)"
