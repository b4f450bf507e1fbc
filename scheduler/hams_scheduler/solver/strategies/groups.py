"""Several groups: level by level (:mod:`hams_scheduler.solver.levels`), and priorities when targets cannot be met.

The strategies maximise the smallest achieved/target, which one bottleneck decides. Here the other levels follow:

    whole nodes   the strategy's placement, and one for each priority that leaves the groups below it out; climbed by
                  moves and swaps; then each level is searched and bounded by HiGHS (:mod:`level_proof`)
    shares        the replicas of the strategy, those of whole nodes, and those of the linear program of all levels;
                  on each the shares are computed level by level (:mod:`level_shares`)

Scores are those of :func:`objective.group_rates`, so the comparison is by the rates that will be served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hams_scheduler.solver import levels, objective
from hams_scheduler.solver.instance import FloatArray, Instance, IntArray, Problem
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies.level_proof import LevelProof, weighted
from hams_scheduler.solver.strategies.level_shares import filled, fitting
from hams_scheduler.solver.strategies.local_search import climb
from hams_scheduler.solver.strategies.replicated import LEAST_SHARE, WORTH_SHARING
from hams_scheduler.solver.time_budget import Budget

Solve = Callable[[Problem, Budget], Answer]

LIFTS = (0.5, 0.25, 0.1)
"""Parts of what is open between a level and its bound that are tried, one after the other."""
EXACT_FIRST = 150
"""Up to so many pairs (M×D) HiGHS has all the time."""
SHARED_PAIRS = 20_000
"""Largest M×D of which shares are computed level by level."""


def score(instance: Instance, problem: Problem, assign: IntArray) -> tuple[float, ...]:
    """Return the levels of a placement of whole nodes; the larger tuple is better."""
    return levels.score(instance, problem, objective.shares_of(problem, assign))


def whole(instance: Instance, problem: Problem, strategy: Solve, budget: Budget) -> Answer:
    """Return whole nodes, bettered at all levels, with a bound for each."""
    joint = strategy(problem, budget.part(budget.left() * 0.5))
    start = _start(instance, problem, strategy, joint, budget)
    proof = LevelProof.of(instance, problem, objective.shares_of(problem, start), joint.bound, whole=True)
    _climb(proof, budget.part(budget.left() * 0.5))
    proof.run(budget.part(budget.left() * 0.3), search=False)
    if not proof.closed:
        if problem.cost.size > EXACT_FIRST:
            _lift(proof, strategy, budget.part(budget.left() * 0.6))
            _climb(proof, budget.part(budget.left() * 0.3))
        proof.run(budget, search=True)
    return Answer(proof.shares, joint.bound, proof.closed, joint.notes, proof.proven)


def _start(instance: Instance, problem: Problem, strategy: Solve, joint: Answer, budget: Budget) -> IntArray:
    """Return the best of the joint placement and, where it misses targets, those made for the higher priorities."""
    options = [np.asarray(joint.shares.argmax(axis=1), dtype=np.int64)]
    priority, group = objective.priorities(instance), objective.group_rows(instance)
    if objective.cycle(problem, options[0]) > 1.0:
        for level in sorted(set(priority.tolist()), reverse=True)[:-1]:
            high = np.where(priority >= level, 1.0, 0.0)
            answer = strategy(weighted(problem, group, high), budget.part(budget.left() * 0.2))
            options.append(np.asarray(answer.shares.argmax(axis=1), dtype=np.int64))
    return max(options, key=lambda assign: score(instance, problem, assign))


def _climb(proof: LevelProof, budget: Budget) -> None:
    """Better the placement by moves and swaps."""
    start = np.asarray(proof.shares.argmax(axis=1), dtype=np.int64)
    proof.take(climb(proof.problem, start, lambda assign: score(proof.instance, proof.problem, assign), budget))


def _lift(proof: LevelProof, strategy: Solve, budget: Budget) -> None:
    """Lift one level after the other: the strategy places the groups at the rates that are wanted of them.

    The groups before a level keep their ratios, those at it and after it are to get a part of what is open up to its
    bound. So many nodes can move at once, which no climb does.
    """
    instance, problem = proof.instance, proof.problem
    places = len(instance.group_names)
    for place in range(places):
        for part in LIFTS:
            ratio = levels.ratios(instance, problem, proof.shares)
            group, where = levels.order(instance, ratio)[place]
            most = proof.bounds.get(where, np.inf)
            if budget.over() or proof.closed_at(ratio, group, where):
                break
            wish = ratio[group] + part * (min(most, 2 * ratio[group] + 1e-3) - ratio[group])
            lifted = weighted(problem, proof.program.group, levels.wanted(instance, ratio, place, wish))
            answer = strategy(lifted, budget.part(budget.left() / (len(LIFTS) * (places - place))))
            proof.take(np.asarray(answer.shares.argmax(axis=1), dtype=np.int64))


def shared(instance: Instance, problem: Problem, strategy: Solve, undivided: Solve, budget: Budget) -> Answer:
    """Return shares, computed anew for all groups level by level, with a bound for each level.

    They are no worse than those of `strategy`, nor than whole nodes by `undivided`; nodes stay whole where sharing
    raises no level by `WORTH_SHARING`.
    """
    nodes = whole(instance, problem, undivided, budget.part(budget.left() * 0.4))
    joint = strategy(problem, budget.part(budget.left() * 0.4))
    options = [joint.shares]
    if problem.cost.size <= SHARED_PAIRS and problem.links is None:
        options += _refilled(instance, problem, [joint.shares, nodes.shares], budget.part(budget.left() * 0.5))
    kept = [shares for shares in options if not objective.breaches(problem, shares)]
    best = max(kept, key=lambda shares: levels.score(instance, problem, shares))
    worth = _worth(levels.score(instance, problem, best), levels.score(instance, problem, nodes.shares))
    proof = LevelProof.of(instance, problem, best if worth else nodes.shares, joint.bound, whole=False)
    proof.run(budget, search=False)
    return Answer(proof.shares, joint.bound, proof.closed, joint.notes, proof.proven)


def _refilled(instance: Instance, problem: Problem, starts: list[FloatArray], budget: Budget) -> list[FloatArray]:
    """Return shares computed level by level on several sets of replicas; too small ones are struck out once."""
    unit = 1.0 / min(objective.share_cycle(problem, shares) for shares in starts)
    residencies = [shares > 0 for shares in starts]
    relaxed = filled(instance, problem, np.isfinite(problem.cost), unit, budget.part(budget.left() * 0.4))
    if relaxed is not None:
        residencies += [fitting(problem, shares > 0, relaxed) for shares in starts]
    found = []
    for used in residencies:
        shares = filled(instance, problem, used, unit, budget.part(budget.left() * 0.4))
        if shares is None:
            continue
        large = shares >= np.minimum(LEAST_SHARE, shares.max(axis=1, keepdims=True))
        again = (
            filled(instance, problem, large, unit, budget.part(budget.left() * 0.4)) if (large != used).any() else None
        )
        found += [one for one in (again, shares) if one is not None and _large_enough(one)]
    return found


def _large_enough(shares: FloatArray) -> bool:
    return bool((shares[shares > 0] >= LEAST_SHARE * (1 - 1e-9)).all())


def _worth(shares: tuple[float, ...], nodes: tuple[float, ...]) -> bool:
    """Whether the first level that differs by more than `WORTH_SHARING` is better with shares."""
    for one, other in zip(shares, nodes, strict=True):
        if abs(one - other) > WORTH_SHARING * max(one, other):
            return one > other
    return False


def bounded(instance: Instance, problem: Problem, answer: Answer, budget: Budget) -> Answer:
    """Return `answer`, of whole nodes, with a bound for each level."""
    proof = LevelProof.of(instance, problem, answer.shares, answer.bound, whole=True)
    proof.run(budget, search=False)
    return replace(answer, levels=proof.proven)
