"""Model-first scheduling (MFS).

Source: HAMS (SEC 2020) and its slides. The paper's steps have the paper's names here:

    QueryWorstCaseModel   query_worst_case_model   the model that is placed next: the worst case first
    QueryModel            query_model              the device that suits this model
    ModelAllocations      model_allocations        the result: a device for each model

The paper's worst case is the model whose best achievable FPS is lowest. Greedy placement depends on that order, so
`WORST_CASES` has four readings of "worst case", and the model that takes most memory is a fifth where memory is
limited; each gives a placement, and the best one is taken. A model with one
feasible device left always goes first. A model goes where the cycle of its device grows least (so the group's does),
ties go to the faster device. Then models leave the bottleneck, by moves, swaps and chains, as long as one shortens the
group's cycle. The answer is never worse than everything on the best single device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, HostTable, IntArray, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import packing, paper
from hams_scheduler.solver.strategies.filling import Filling
from hams_scheduler.solver.strategies.local_search import climb, descend
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget

CLIMBED = 2000
"""Most moves and swaps of a placement, M × (M + D), that are tried one by one where hosts' cores count, or devices
slow down with their models."""
MANY_PAIRS = 2000
"""Beyond this M×D regret is the only worst case."""

WorstCase = Callable[[Filling], FloatArray]
"""Returns M numbers; the waiting model with the largest one is the worst case."""


def _alone(filling: Filling) -> FloatArray:
    """The paper's: the best cycle of the model alone, so the lowest best FPS."""
    return filling.alone


def _second(filling: Filling) -> FloatArray:
    """The second best cycle beside the models that are placed: what happens once the best device is taken."""
    return filling.second


def _regret(filling: Filling) -> FloatArray:
    """What the model loses without its best device, s."""
    return filling.second - filling.first


def _relative_regret(filling: Filling) -> FloatArray:
    """How many times longer the cycle is without the model's best device."""
    return filling.second / filling.first


def _memory(filling: Filling) -> FloatArray:
    """The part of a device's memory that the model takes where that is least: large models find no room later."""
    problem = filling.problem
    return np.asarray((problem.memory / np.maximum(problem.capacity, SLACK_MIB)).min(axis=1), dtype=np.float64)


WORST_CASES: tuple[WorstCase, ...] = (_alone, _second, _regret, _relative_regret)


def mfs(problem: Problem, budget: Budget) -> Answer:
    """Return the MFS placement; M×D steps of arithmetic."""
    if problem.one_per_device:
        return paper.mfs(problem, budget)
    assign, notes = best_polished(problem, placements(problem), "mfs")
    return Answer.of(problem, assign, sweep(problem, budget, 30).bound, notes=notes)


def placements(problem: Problem) -> list[IntArray]:
    """Return a placement for each worst case whose order does not run out of memory."""
    cases = WORST_CASES if problem.cost.size <= MANY_PAIRS else (_regret,)
    if problem.tight and problem.cost.size <= MANY_PAIRS:
        cases = (*cases, _memory)
    found = [place(problem, case) for case in cases]
    return [assign for assign in found if assign is not None]


def place(problem: Problem, worst_case: WorstCase = _alone) -> IntArray | None:
    """Return the model allocations (M device rows), or None when the order runs out of memory."""
    filling = Filling(problem)
    model_allocations = filling.allocations
    while (model := query_worst_case_model(filling, worst_case)) is not None:
        device = query_model(filling, model)
        if device is None:
            return None
        filling.put(model, device)
    return model_allocations


def query_worst_case_model(filling: Filling, worst_case: WorstCase) -> int | None:
    """Return the waiting model that is worst off; those with one feasible device left first. None: all are placed."""
    waiting = np.nonzero(filling.waiting)[0]
    if not len(waiting):
        return None
    only = ~np.isfinite(filling.second[waiting])
    worst = filling.alone if only.any() else worst_case(filling)
    return int(waiting[np.where(only | ~only.any(), worst[waiting], -np.inf).argmax()])


def query_model(filling: Filling, model: int) -> int | None:
    """Return the device that suits the model: where the cycle grows least, then the faster; None: it fits nowhere."""
    own = filling.own[model]
    if not np.isfinite(own.min()):
        return None
    tied = np.nonzero(own <= own.min() * (1 + 1e-12))[0]
    return int(tied[filling.problem.cost[model, tied].argmin()])


def spent_on(table: HostTable, assign: IntArray) -> FloatArray:
    """Return H seconds of the hosts' cores that the frames and the placed rows of `assign` (-1: not placed) take."""
    rows = np.nonzero(assign >= 0)[0]
    by_device = np.bincount(assign[rows], table.cpu[rows, assign[rows]], minlength=table.cpu.shape[1])
    return table.total(by_device) + table.base


def single(problem: Problem) -> IntArray | None:
    """Return everything on the single device where that is fastest; None if no device holds all."""
    total = problem.cost.sum(axis=0)
    if problem.slowdown is not None:
        total = total * problem.slowdown[:, -1]
    if problem.hosts is not None:
        total = np.maximum(total, problem.hosts.cpu.sum(axis=0) + problem.hosts.base[problem.hosts.host])
    total = np.where(problem.memory.sum(axis=0) <= problem.capacity + SLACK_MIB, total, np.inf)
    column = int(total.argmin())
    return np.full(problem.shape[0], column, dtype=np.int64) if np.isfinite(total[column]) else None


def best_polished(problem: Problem, found: Iterable[IntArray], name: str) -> tuple[IntArray, tuple[str, ...]]:
    """Return the best of the placements `found`, polished, or, when better, everything on one device, polished too.

    If there is neither, some feasible packing is polished.
    """
    options = [polished(problem, assign) for assign in found]
    alone = single(problem)
    notes: tuple[str, ...] = ()
    if not options:
        notes = (f"{name}: its order runs out of memory; a placement that fits was used",)
        options = [polished(problem, packing.feasible_start(problem) if alone is None else alone)]
    best = min(options, key=lambda assign: cycle(problem, assign))
    starts = [best]
    if alone is not None:
        starts.append(polished(problem, alone))
        if cycle(problem, alone) < cycle(problem, best):
            notes = (f"{name}: everything on {problem.devices[alone[0]]} is faster than its own placement",)
    rows, columns = problem.shape
    if not problem.plain and rows * (rows + columns) <= CLIMBED:
        score, budget = (lambda tried: (-cycle(problem, tried),)), Budget.start(np.inf)
        starts = [climb(problem, assign, score, budget, 2 * columns) for assign in starts]
    return min(starts, key=lambda assign: cycle(problem, assign)), notes


def polished(problem: Problem, assign: IntArray) -> IntArray:
    """Return `assign` after moves, swaps and chains off the bottleneck, as many as there are devices twice over.

    Hosts' cores only count in whether that is better; nothing is done where devices slow down with their models.
    """
    if problem.plain:
        return descend(problem, assign, Budget.start(np.inf), 2 * problem.shape[1])
    if problem.hosts is None:
        return assign
    free = polished(replace(problem, hosts=None), assign)
    return free if cycle(problem, free) < cycle(problem, assign) else assign
