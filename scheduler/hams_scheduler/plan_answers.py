"""Answers to questions about plans: what a strategy would do, what each loss leaves, and what survives any. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from hams_scheduler import planning
from hams_scheduler.expected_work import Work
from hams_scheduler.planning import choose_and_place, place, translated
from hams_scheduler.planning_instance import build_instance
from hams_scheduler.solver.instance import NoPlacementError
from hams_scheduler.solver.losses import Loss, each_removed
from hams_scheduler.solver.placement import Placement
from hams_scheduler.solver.survive import Survival, survive
from hams_scheduler.variant_choice import NetworkChoices, PlanningSnapshot, choose_networks, explained, variants_of
from hams_shared.errors import InfeasibleError
from hams_shared.wire.messages.scheduler import (
    GroupOutcome,
    LossOutcome,
    StrategyAnswer,
    SurvivalOutcome,
    SurviveRequest,
)


def answer(snapshot: PlanningSnapshot, *, each_loss: bool = False) -> StrategyAnswer:
    """What the strategy of `snapshot` would do; where it uses variants, also what it would do without.

    `each_loss`: also what it would do without each device. Raises as :func:`planning.place`.
    """
    with translated():
        chosen, whole, placement = choose_and_place(snapshot, partial(planning.solve, bounds=True))
        losses = each_removed(whole, placement, lambda left: planning.solve(left, snapshot)) if each_loss else ()
    found = _to_answer(placement, chosen, losses, snapshot.all_works)
    if not found.variants:
        return found
    try:
        without = place(replace(snapshot, variants={}))
    except InfeasibleError:
        return found.model_copy(update={"source_fps": 0.0})
    return found.model_copy(update={"source_fps": without.fps})


def answer_survival(snapshot: PlanningSnapshot, wanted: SurviveRequest) -> StrategyAnswer:
    """The placement of whole nodes that keeps what is wanted after any one loss.

    Raises:
        InfeasibleError: there is none, with what breaks and the best that can be had.
    """
    with translated():
        chosen = choose_networks(snapshot)
        try:
            found = _survive(snapshot, chosen, wanted)
        except NoPlacementError:
            smallest = choose_networks(snapshot, smallest=True)
            if smallest.same(chosen):
                raise
            chosen, found = smallest, _survive(snapshot, smallest, wanted)
    outcome = SurvivalOutcome(**{k: v for k, v in found.to_dict().items() if k != "losses"})
    return _to_answer(found.placement, chosen, found.losses, snapshot.all_works).model_copy(
        update={"survival": outcome}
    )


def _survive(snapshot: PlanningSnapshot, chosen: NetworkChoices, wanted: SurviveRequest) -> Survival:
    instance = build_instance(snapshot, chosen)
    return survive(instance, keep=wanted.keep, reserve=wanted.reserve_memory, time_limit_s=snapshot.time_limit_s)


def _to_answer(
    placement: Placement, chosen: NetworkChoices, losses: tuple[Loss, ...], works: Mapping[str, Work]
) -> StrategyAnswer:
    """A placement as it is shown to a person; node names are without the group where there is only one."""
    several = len(placement.group_fps) > 1

    def shown(name: str) -> str:
        return name if several else name.split("/", 1)[-1]

    left = [LossOutcome(**one.to_dict()) for one in losses]
    return StrategyAnswer(
        strategy=placement.strategy,
        group_fps=dict(placement.group_fps) if several else {},
        groups=tuple(GroupOutcome(**one.to_dict()) for one in placement.groups),
        losses=tuple(one.model_copy(update={"moved": {shown(n): d for n, d in one.moved.items()}}) for one in left),
        shares={shown(n): dict(s) for n, s in placement.shares.items()},
        variants={shown(n): v for n, v in variants_of(placement, chosen).items()},
        fps=placement.fps,
        bound_fps=placement.bound_fps,
        gap=placement.gap,
        seconds=placement.seconds,
        busy=dict(placement.busy),
        bottleneck=placement.bottleneck,
        explanation={shown(n): text for n, text in explained(placement, chosen, works).items()},
    )
