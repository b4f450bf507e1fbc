"""The paper's own metric: at most one model per device, the slowest model decides (HAMS, SEC 2020).

With one model per device the placement is a linear bottleneck assignment (Burkard, Dell'Amico, Martello: Assignment
Problems, chapter 6), which is solved exactly in polynomial time. Memory is per pair here, so `cost` already excludes a
model that does not fit.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from hams_scheduler.solver.instance import IntArray, NoPlacementError, Problem
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.time_budget import Budget


def bottleneck_assignment(problem: Problem) -> IntArray:
    """Return M distinct device rows with the least longest cost, by threshold search over matchings.

    Raises NoPlacementError when no assignment of all models to devices of their own exists.
    """
    values = np.unique(problem.cost[np.isfinite(problem.cost)])
    best = _match(problem, float(values[-1]))
    if (best < 0).any():
        names = [problem.models[row] for row in np.nonzero(best < 0)[0]]
        raise NoPlacementError(
            f"the objective paper gives each model a device of its own; none is left for {', '.join(names)}",
            models=names,
        )
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        found = _match(problem, float(values[middle]))
        if (found < 0).any():
            low = middle + 1
        else:
            high, best = middle, found
    return best


def optimal(problem: Problem, budget: Budget) -> Answer:
    """Return the best one-model-per-device placement, proven."""
    assign = bottleneck_assignment(problem)
    return Answer.of(problem, assign, _cycle(problem, assign), optimal=True)


def mfs(problem: Problem, budget: Budget) -> Answer:
    """Model-first: the model whose best FPS is lowest first, each to its fastest free device."""
    order = np.argsort(-problem.cost.min(axis=1), kind="stable")
    return _greedy(problem, [(int(row), None) for row in order], "mfs")


def hfs(problem: Problem, budget: Budget) -> Answer:
    """Hardware-first: the strongest device (highest mean speed) takes the slowest model that it can run."""
    best = problem.cost.min(axis=1)
    speed = np.where(np.isfinite(problem.cost), best[:, None] / problem.cost, 0.0).mean(axis=0)
    devices = np.argsort(-speed, kind="stable")
    left = [int(row) for row in np.argsort(-best, kind="stable")]
    pairs = []
    for column in devices:
        row = next((row for row in left if np.isfinite(problem.cost[row, column])), None)
        if row is not None:
            left.remove(row)
            pairs.append((row, int(column)))
    return _greedy(problem, [*pairs, *((row, None) for row in left)], "hfs")


def _greedy(problem: Problem, order: list[tuple[int, int | None]], name: str) -> Answer:
    exact = bottleneck_assignment(problem)
    bound = _cycle(problem, exact)
    assign = np.full(problem.shape[0], -1, dtype=np.int64)
    free = np.ones(problem.shape[1], dtype=bool)
    for row, column in order:
        options = np.where(free, problem.cost[row], np.inf)
        chosen = int(options.argmin()) if column is None else column
        if not np.isfinite(options[chosen]):
            note = f"{name}: taking devices in turn left none for {problem.models[row]}; a matching was used"
            return Answer.of(problem, exact, bound, notes=(note,))
        assign[row] = chosen
        free[chosen] = False
    return Answer.of(problem, assign, bound)


def _match(problem: Problem, limit: float) -> IntArray:
    graph = csr_array((problem.cost <= limit).astype(np.int8))
    return np.asarray(maximum_bipartite_matching(graph, perm_type="column"), dtype=np.int64)


def _cycle(problem: Problem, assign: IntArray) -> float:
    return float(problem.cost[np.arange(len(assign)), assign].max())
