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


def solve(instance: Instance, strategy: str, *, time_limit_s: float = 1.0, clock: Clock = default_clock) -> Placement:
    """Place `instance` by the strategy of that name.

    `time_limit_s` bounds the anytime search of `optimal` and `replicated` (sharing may take a fifth of it more); the
    others take what they take. `seconds` of the answer is the search on `clock`, without the explanations. Raises
    InvalidInstanceError for an unknown strategy or a time limit that is not above 0, NoPlacementError when nothing
    fits.
    """
    if strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise InvalidInstanceError(f"unknown strategy {strategy!r}; there are {known}", field="strategy")
    if not time_limit_s > 0:
        raise InvalidInstanceError("the time limit must be above 0 s", field="time_limit_s")
    budget = Budget.start(time_limit_s, clock)
    problem = Problem.of(instance)
    if strategy == "optimal" and len(instance.group_names) > 1 and not problem.one_per_device:
        answer = groups.solve(instance, problem, STRATEGIES[strategy], budget)
    else:
        answer = STRATEGIES[strategy](problem, budget)
    return placement.build(strategy, instance, problem, answer, budget.spent())
