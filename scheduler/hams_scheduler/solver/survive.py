"""Placements that survive the loss of any one device: every group keeps a stated part of its target.

When a device is lost, each of its nodes falls back to one other device; all other nodes stay where they are, so that a
loss loads nothing but what was lost. Memory for the fallbacks is either left free where it is needed after each single
loss, or reserved for all of them at once (they can then be loaded in advance). A group without a target is measured
against what the ordinary plan gives it.

Small questions are answered by a mixed-integer program (:mod:`fallback_program`) for the smallest ratio, larger ones by
moves and swaps; both are then climbed with the rates that will be served, priorities included. What is proven: the
bounds of the levels hold, for no plan has more; that on the part kept is the program's, else the smallest of the linear
programs without each device, in which all nodes may move and be shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hams_scheduler.solver import levels, objective, placement
from hams_scheduler.solver.instance import (
    SLACK_MIB,
    Instance,
    IntArray,
    InvalidInstanceError,
    NoPlacementError,
    Problem,
)
from hams_scheduler.solver.losses import Loss, references
from hams_scheduler.solver.placement import Answer, Placement
from hams_scheduler.solver.strategies import groups, lp
from hams_scheduler.solver.strategies.fallback_program import FallbackProgram, Fallbacks
from hams_scheduler.solver.strategies.level_proof import weighted
from hams_scheduler.solver.strategies.local_search import climb
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.strategies.registry import solve
from hams_scheduler.solver.time_budget import Budget, Clock, default_clock

TOLD = 6
"""Most groups that a loss breaks which an error names."""
ENOUGH = 1 - 1e-6
"""So much of the part to keep counts as kept."""


@dataclass(frozen=True)
class Survival:
    """A placement, what each loss leaves, and what was asked.

    `kept` is the smallest part that any group keeps after any loss, `bound_kept` a bound on that for all placements.
    `ordinary_fps` is what groups get, without a loss, from the plan that need not survive.
    """

    placement: Placement
    losses: tuple[Loss, ...]
    keep: float
    reserve: bool
    kept: float
    bound_kept: float
    ordinary_fps: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "keep": self.keep,
            "reserve_memory": self.reserve,
            "kept": self.kept,
            "bound_kept": self.bound_kept if np.isfinite(self.bound_kept) else None,
            "ordinary_fps": dict(self.ordinary_fps),
            "losses": [loss.to_dict() for loss in self.losses],
        }


@dataclass(frozen=True, eq=False)
class _Question:
    """`reference` is FPS by group, `kept` the problem in which each group runs at the rate that it must keep."""

    instance: Instance
    problem: Problem
    kept: Problem
    reference: Mapping[str, float]
    keep: float
    reserve: bool


def survive(
    instance: Instance, *, keep: float, reserve: bool, time_limit_s: float, clock: Clock = default_clock
) -> Survival:
    """Place whole nodes so that after the loss of any one device every group keeps `keep` of its target.

    Raises:
        NoPlacementError: no placement does, or none was found; with what breaks, and the best that can be had.
        InvalidInstanceError: `keep` is not above 0 and at most 1.
    """
    if not 0 < keep <= 1:
        raise InvalidInstanceError(f"the part to keep is above 0 and at most 1, not {keep:g}")
    if instance.objective == "paper":
        raise InvalidInstanceError("the objective paper has no fallbacks: one model per device")
    budget = Budget.start(time_limit_s, clock)
    ordinary = solve(instance, "optimal", time_limit_s=time_limit_s * 0.3, clock=clock)
    question = _question(instance, ordinary, keep, reserve)
    start = placement.assignment_rows(instance, ordinary.shares)
    found, bound = _best(question, start, budget)
    losses = _losses(question, *found)
    least = min(loss.least for loss in losses)
    if least < keep * ENOUGH:
        raise _refusal(question, found, budget)
    answer = _answer(question, found[0], bound, ordinary, budget)
    made = placement.build("optimal", instance, question.problem, answer, budget.spent())
    most = max(least, min(_most_kept(question, budget), _safest(question, budget.left())[1]))
    return Survival(made, losses, keep, reserve, least, most, ordinary.group_fps)


def _question(instance: Instance, ordinary: Placement, keep: float, reserve: bool) -> _Question:
    problem = Problem.of(instance)
    reference = references(instance, ordinary)
    several = len(instance.group_names) > 1
    names = instance.group_names
    ratio = np.array([keep * reference[name] / (instance.target(name) if several else 1.0) for name in names])
    kept = weighted(problem, objective.group_rows(instance), ratio)
    return _Question(instance, problem, kept, reference, keep, reserve)


def _answer(question: _Question, assign: IntArray, bound: float, ordinary: Placement, budget: Budget) -> Answer:
    """Return the placement with its bounds: those of the program, and of plans that need not survive."""
    if len(question.instance.group_names) == 1:
        return Answer.of(question.problem, assign, max(bound, 1.0 / ordinary.bound_fps))
    bound = max(bound, sweep(question.problem, budget).bound)
    answer = Answer.of(question.problem, assign, bound)
    return groups.bounded(question.instance, question.problem, answer, budget.part(max(0.1, budget.left())))


def _best(question: _Question, start: IntArray, budget: Budget) -> tuple[tuple[IntArray, IntArray], float]:
    """Return the best placement found with its fallbacks, and a bound on the cycle of all that keep enough."""
    program = FallbackProgram(question.problem, question.kept, reserve=question.reserve)
    options = [(start, fallbacks(question, start))]
    bound = 0.0
    if program.small:
        upper = float(np.where(np.isfinite(question.problem.cost), question.problem.cost, 0.0).sum())
        upper = max(upper, objective.cycle(question.problem, start))
        exact = program.shortest(upper, budget.left() * 0.6)
        bound = 0.0 if exact.none else exact.bound
        options += _of(exact)
    best = max(options, key=lambda option: _score(question, *option))
    rows = climb(
        question.problem,
        best[0],
        lambda rows: _score(question, rows, fallbacks(question, rows)),
        budget.part(budget.left() * 0.6),
    )
    options.append((rows, fallbacks(question, rows)))
    return max(options, key=lambda option: _score(question, *option)), bound


def _of(found: Fallbacks) -> list[tuple[IntArray, IntArray]]:
    return [] if found.assign is None or found.fallback is None else [(found.assign, found.fallback)]


def _score(question: _Question, assign: IntArray, fallback: IntArray) -> tuple[float, ...]:
    """What is kept after the worst loss, up to what is asked; then the levels without a loss."""
    least = min(loss.least for loss in _losses(question, assign, fallback))
    enough = 1.0 if least >= question.keep * ENOUGH else least / question.keep
    shares = objective.shares_of(question.problem, assign)
    return enough, *levels.score(question.instance, question.problem, shares)


def fallbacks(question: _Question, assign: IntArray) -> IntArray:
    """Return M device rows to fall back to, -1: nowhere. The most expensive first, each where the cycle grows least."""
    p, kept = question.problem, question.kept
    columns = p.shape[1]
    index = np.arange(len(assign))
    fallback = np.full(len(assign), -1, dtype=np.int64)
    free = p.capacity + SLACK_MIB - np.bincount(assign, p.memory[index, assign], columns)
    loads = np.bincount(assign, kept.cost[index, assign], columns)
    spent = (
        None
        if kept.hosts is None
        else kept.hosts.total(np.bincount(assign, kept.hosts.cpu[index, assign], columns)) + kept.hosts.base
    )
    order = np.argsort(-np.where(np.isfinite(kept.cost), kept.cost, 0.0).max(axis=1), kind="stable")
    for lost in range(columns):
        room = free if question.reserve else free.copy()
        busy, cores = loads.copy(), None if spent is None else spent.copy()
        mine = [row for row in order if assign[row] == lost]
        if cores is not None and kept.hosts is not None:
            cores[kept.hosts.host[lost]] -= kept.hosts.cpu[mine, lost].sum()
        for row in mine:
            cost = busy + kept.cost[row]
            if cores is not None and kept.hosts is not None:
                cost = np.maximum(cost, cores[kept.hosts.host] + kept.hosts.cpu[row])
            cost[(p.memory[row] > room) | ~np.isfinite(p.cost[row])] = np.inf
            cost[lost] = np.inf
            to = int(cost.argmin())
            if not np.isfinite(cost[to]):
                continue
            fallback[row] = to
            room[to] -= p.memory[row, to]
            busy[to] += kept.cost[row, to]
            if cores is not None and kept.hosts is not None:
                cores[kept.hosts.host[to]] += kept.hosts.cpu[row, to]
    return fallback


def _losses(question: _Question, assign: IntArray, fallback: IntArray) -> tuple[Loss, ...]:
    return tuple(_loss(question, assign, fallback, column) for column in range(question.problem.shape[1]))


def _loss(question: _Question, assign: IntArray, fallback: IntArray, lost: int) -> Loss:
    """What groups get when the nodes on device `lost` have fallen back."""
    instance, problem = question.instance, question.problem
    rows = np.where(assign == lost, fallback, assign)
    nowhere = {instance.group_of(instance.models[row]): instance.models[row] for row in np.nonzero(rows < 0)[0]}
    shares = objective.shares_of(problem, np.maximum(rows, 0))
    out = np.array([instance.group_of(model) in nowhere for model in instance.models])
    if out.all():
        rates, limits = dict.fromkeys(nowhere, 0.0), {}
    else:
        shares[out] = 0.0
        rates = objective.group_rates(instance, problem, shares) | dict.fromkeys(nowhere, 0.0)
        limits = objective.limits(instance, problem, shares, rates)
    kept = {name: rates[name] / question.reference[name] if question.reference[name] else 1.0 for name in rates}
    worst = min(kept, key=lambda name: kept[name])
    moved = {
        instance.models[row]: instance.devices[fallback[row]] for row in np.nonzero((assign == lost) & (rows >= 0))[0]
    }
    device = instance.devices[lost]
    alone = {instance.models[row] for row in np.nonzero(np.isfinite(problem.cost).sum(axis=1) == 1)[0]}
    reasons = {g: f"{m} runs on no other device" if m in alone else f"no room for {m}" for g, m in nowhere.items()}
    return Loss(device, rates, kept, moved, reasons, "" if worst in nowhere else limits[worst])


def _most_kept(question: _Question, budget: Budget) -> float:
    """Return a bound on the part kept after the worst loss: by linear programs, in which all nodes may move."""
    least = np.inf
    for lost in range(question.problem.shape[1]):
        open_ = np.isfinite(question.kept.cost)
        open_[:, lost] = False
        if not open_.any(axis=1).all():
            return 0.0
        found = lp.solve(replace(question.kept, slowdown=None), open_, max(budget.left(), 0.05))
        if found is not None:
            least = min(least, question.keep / (found.cycle * (1 - 1e-7)))
    return float(least)


def _refusal(question: _Question, found: tuple[IntArray, IntArray], budget: Budget) -> NoPlacementError:
    """Return the error: which loss breaks which group, what the best is that was found, and what bounds it."""
    safest, bound = _safest(question, max(budget.left(), budget.seconds * 0.5))
    bound = min(bound, _most_kept(question, budget))
    options = [found, *_of(safest)]
    best = max(options, key=lambda option: sorted(loss.least for loss in _losses(question, *option)))
    losses = _losses(question, *best)
    kept = min(loss.least for loss in losses)
    proven = bound < question.keep * ENOUGH
    what = "no placement keeps" if proven else "no placement was found that keeps"
    room = " with memory reserved" if question.reserve else ""
    most = f"; no placement keeps more than {bound:.1%}" if proven and bound > kept * 1.001 else ""
    text = (
        f"{what} {question.keep:.0%} of each group's FPS after the loss of any one device{room}. "
        f"The best keeps {kept:.1%}{most}: {'; '.join(broken(losses, question.keep, question.reference))}"
    )
    return NoPlacementError(text)


def _safest(question: _Question, seconds: float) -> tuple[Fallbacks, float]:
    """Look for the placement that keeps most; return it with a bound on the part kept."""
    program = FallbackProgram(question.problem, question.kept, reserve=question.reserve)
    if not program.small or seconds <= 0:
        return Fallbacks(None, None, 0.0), np.inf
    kept = question.kept
    longest = float(np.where(np.isfinite(kept.cost), kept.cost, 0.0).max(axis=1).sum())
    if kept.hosts is not None:
        longest += float(kept.hosts.base.max() + kept.hosts.cpu.sum())
    found = program.safest(longest, seconds)
    return found, 0.0 if found.none else question.keep / max(found.bound, 1e-9)


def broken(losses: tuple[Loss, ...], keep: float, reference: Mapping[str, float]) -> list[str]:
    """Return which loss leaves which group less than `keep`, in words."""
    found = []
    for loss in losses:
        for name, part in loss.kept.items():
            if part < keep * ENOUGH:
                why = f" ({loss.reasons[name]})" if name in loss.reasons else ""
                found.append(
                    f"without {loss.device} {name} makes {loss.group_fps[name]:.4g} of {reference[name]:.4g} FPS{why}"
                )
    return [*found[:TOLD], f"{len(found) - TOLD} more"] if len(found) > TOLD + 1 else found
