"""The paper's own metric: at most one model per device, the slowest model decides (HAMS, SEC 2020).

With one model per device the placement is a linear bottleneck assignment (Burkard, Dell'Amico, Martello: Assignment
Problems, chapter 6), which is solved exactly in polynomial time. Memory is per pair here, so `cost` already excludes a
model that does not fit. The heuristics' steps have the paper's names, as in :mod:`mfs` and :mod:`hfs`.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from hams_scheduler.solver.instance import FloatArray, IntArray, NoPlacementError, Problem
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
    model_allocations: dict[int, int] = {}
    models, devices = np.arange(problem.shape[0]), np.arange(problem.shape[1])
    while len(models):
        model = query_worst_case_model(problem, models)
        device = query_model(problem, model, devices)
        if device is None:
            return _matched(problem, model, "mfs")
        model_allocations[model] = device
        models, devices = models[models != model], devices[devices != device]
    return _answer(problem, model_allocations)


def hfs(problem: Problem, budget: Budget) -> Answer:
    """Hardware-first: the strongest device (highest mean speed) takes the slowest model that it can run."""
    device_allocations: dict[int, int] = {}
    models, devices = np.arange(problem.shape[0]), np.arange(problem.shape[1])
    while len(models) and len(devices):
        device = query_worst_case_device(problem, devices)
        model = query_device(problem, device, models)
        devices = devices[devices != device]
        if model is not None:
            device_allocations[device] = model
            models = models[models != model]
    if len(models):
        return _matched(problem, query_worst_case_model(problem, models), "hfs")
    return _answer(problem, {model: device for device, model in device_allocations.items()})


def query_worst_case_model(problem: Problem, models: IntArray) -> int:
    """Return which of the waiting `models` has the lowest best FPS."""
    return int(models[problem.cost[models].min(axis=1).argmax()])


def query_model(problem: Problem, model: int, devices: IntArray) -> int | None:
    """Return which of the free `devices` suits the model: its fastest; None: it can run on none."""
    cost = problem.cost[model, devices]
    return int(devices[cost.argmin()]) if np.isfinite(cost.min(initial=np.inf)) else None


def query_worst_case_device(problem: Problem, devices: IntArray) -> int:
    """Return which of the free `devices` is the strongest."""
    return int(devices[speeds(problem)[devices].argmax()])


def query_device(problem: Problem, device: int, models: IntArray) -> int | None:
    """Return which of the waiting `models` suits the device: the slowest that it can run; None: it can run none."""
    able = models[np.isfinite(problem.cost[models, device])]
    return query_worst_case_model(problem, able) if len(able) else None


def speeds(problem: Problem) -> FloatArray:
    """Return D: the mean over models of the device's speed relative to the model's best; unsupported counts as 0."""
    best = problem.cost.min(axis=1, keepdims=True)
    supported = np.isfinite(problem.cost)
    speed = np.where(supported, best / np.where(supported, problem.cost, 1.0), 0.0)
    return np.asarray(speed.mean(axis=0), dtype=np.float64)


def _answer(problem: Problem, model_allocations: dict[int, int]) -> Answer:
    assign = np.array([model_allocations[row] for row in range(problem.shape[0])], dtype=np.int64)
    return Answer.of(problem, assign, _cycle(problem, bottleneck_assignment(problem)))


def _matched(problem: Problem, left: int, name: str) -> Answer:
    """Return the exact assignment, because the order left no device for the model `left`."""
    exact = bottleneck_assignment(problem)
    note = f"{name}: taking devices in turn left none for {problem.models[left]}; a matching was used"
    return Answer.of(problem, exact, _cycle(problem, exact), notes=(note,))


def _match(problem: Problem, limit: float) -> IntArray:
    graph = csr_array((problem.cost <= limit).astype(np.int8))
    return np.asarray(maximum_bipartite_matching(graph, perm_type="column"), dtype=np.int64)


def _cycle(problem: Problem, assign: IntArray) -> float:
    return float(problem.cost[np.arange(len(assign)), assign].max())
