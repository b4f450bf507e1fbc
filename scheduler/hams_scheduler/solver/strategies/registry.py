"""Strategies by name, and `solve`: one question, one answer."""

from __future__ import annotations

from collections.abc import Callable

from hams_scheduler.solver import placement
from hams_scheduler.solver.instance import Instance, InvalidInstanceError, Problem
from hams_scheduler.solver.placement import Answer, Placement
from hams_scheduler.solver.strategies import baseline, groups
from hams_scheduler.solver.strategies.hfs import hfs
from hams_scheduler.solver.strategies.mfs import mfs
from hams_scheduler.solver.strategies.optimal import optimal
from hams_scheduler.solver.strategies.replicated import replicated
from hams_scheduler.solver.time_budget import Budget, Clock, default_clock

Strategy = Callable[[Problem, Budget], Answer]

STRATEGIES: dict[str, Strategy] = {
    "default": baseline.default,
    "round-robin": baseline.round_robin,
    "fastest": baseline.fastest,
    "mfs": mfs,
    "hfs": hfs,
    "optimal": optimal,
    "replicated": replicated,
}


def names() -> tuple[str, ...]:
    """Return the strategies' names, the simplest first."""
    return tuple(STRATEGIES)


def solve(
    instance: Instance,
    strategy: str,
    *,
    time_limit_s: float = 1.0,
    clock: Clock = default_clock,
    bounds: bool = False,
) -> Placement:
    """Place `instance` by the strategy of that name.

    `time_limit_s` bounds the anytime search of `optimal` and `replicated` (sharing may take a fifth of it more); the
    others take what they take. `seconds` of the answer is the search on `clock`, without the explanations. `bounds`: of
    several groups each gets the bound of its level from the other strategies, too, which takes `time_limit_s` more at
    most. Raises InvalidInstanceError for an unknown strategy or a time limit that is not above 0, NoPlacementError when
    nothing fits.
    """
    if strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise InvalidInstanceError(f"unknown strategy {strategy!r}; there are {known}", field="strategy")
    if not time_limit_s > 0:
        raise InvalidInstanceError("the time limit must be above 0 s", field="time_limit_s")
    budget = Budget.start(time_limit_s, clock)
    problem = Problem.of(instance)
    several = len(instance.group_names) > 1 and not problem.one_per_device
    if several and strategy == "optimal":
        answer = groups.whole(instance, problem, optimal, budget)
    elif several and strategy == "replicated":
        answer = groups.shared(instance, problem, replicated, optimal, budget)
    else:
        answer = STRATEGIES[strategy](problem, budget)
    seconds = budget.spent()
    if several and bounds and answer.levels is None:
        answer = groups.bounded(instance, problem, answer, Budget.start(time_limit_s, clock))
    return placement.build(strategy, instance, problem, answer, seconds)
