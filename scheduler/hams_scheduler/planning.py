"""From a snapshot of groups, devices and profiles to a placement, and from that to plans. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from hams_scheduler.fitting_groups import FittingGroups
from hams_scheduler.planning_instance import build_instance
from hams_scheduler.solver import instance, levels, objective
from hams_scheduler.solver.instance import FloatArray, Instance, Problem
from hams_scheduler.solver.near_levels import near
from hams_scheduler.solver.placement import Answer, Placement, assignment_rows, build
from hams_scheduler.solver.replan import TOLERANCE, change
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.strategies.registry import names
from hams_scheduler.solver.strategies.registry import solve as run
from hams_scheduler.solver.time_budget import Budget
from hams_scheduler.variant_choice import (
    NetworkChoices,
    PlanningSnapshot,
    choose_networks,
    devices_to_load,
    explained,
    node_name,
    serving,
    variants_of,
)
from hams_shared.errors import BadInputError, InfeasibleError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan

LARGE = 10_000
"""From so many pairs of node and device on a solution from scratch takes too long for groups that stand still."""
GOOD_ENOUGH, POOR = 1.15, 1.35
"""A plan made in haste is improved until its cycle is the first times the proven bound; beyond the second it is not
used."""
HASTY = "changed in haste: a solution from scratch may be better"
WHOLE = ("mfs", "hfs", "optimal")
"""The strategies that search for the best placement of whole nodes."""
SWEEPS = 60
"""Most steps of finding the bound."""
SHARE_CHANGE = 0.02
"""A change of a share below this is noise."""


@dataclass(frozen=True)
class Solution:
    """The solver's answer."""

    plans: dict[str, Plan]
    """By group; the epoch is 1 and the reason is empty until the plan is proposed."""
    failed: Mapping[str, InfeasibleError] = field(default_factory=dict)
    """By group: why it was left out. The others are placed without it."""
    gone: frozenset[str] = frozenset()
    """Groups of `failed` whose plans cannot stay in force: more important ones take their memory."""
    gain: float = float("inf")
    """Predicted FPS over that of the placement that serves now, both by what is known now; infinite if that cannot.

    Of several groups that of the first level (:mod:`levels`) that differs."""
    moves: tuple[str, ...] = ()
    """Nodes, ``group/node``, that change their device, or the network they have there."""
    load_s: float = 0.0
    """Time the device with most to load needs for it, s."""
    hasty: bool = False
    """Whether what serves was changed until it was good enough: a solution from scratch may be better."""


def place(snapshot: PlanningSnapshot) -> Placement:
    """Solve `snapshot` with its strategy, from scratch.

    Raises:
        InfeasibleError: no placement keeps support, pins and memory.
        BadInputError: there is no such strategy.
    """
    with translated():
        return choose_and_place(snapshot, solve)[2]


def decide(snapshot: PlanningSnapshot, now: float) -> Solution:
    """Solve `snapshot`, moving as few of the nodes that serve now as that allows.

    Groups that cannot be placed, alone or together with those before them (:class:`FittingGroups`), are left out.

    Raises:
        BadInputError: there is no such strategy.
    """
    try:
        return _decided(snapshot, now)
    except InfeasibleError as error:
        if len(snapshot.groups) == 1:
            return Solution({}, failed={snapshot.groups[0].spec.name: error})
    failed = _run_nowhere(snapshot)
    rest = tuple(group for group in snapshot.groups if group.spec.name not in failed)
    if failed and rest:
        try:  # each by itself is tried only if they do not fit together
            return replace(_decided(replace(snapshot, groups=rest), now), failed=failed)
        except InfeasibleError:
            pass
    fitting = FittingGroups(snapshot, place, failed)
    site = fitting.find()
    found = _decided(site, now) if site.groups else Solution({})
    return replace(found, failed=fitting.failed, gone=frozenset(fitting.gone))


def _run_nowhere(snapshot: PlanningSnapshot) -> dict[str, InfeasibleError]:
    """The groups of which some node runs on no device, whatever else is placed, and why."""
    failed: dict[str, InfeasibleError] = {}
    for group in snapshot.groups:
        try:
            build_instance(replace(snapshot, groups=(group,)))
        except InfeasibleError as error:
            failed[group.spec.name] = error
    return failed


def _decided(snapshot: PlanningSnapshot, now: float) -> Solution:
    """Solve `snapshot` with all of its groups. Raises as :func:`place`."""
    with translated():
        chosen, whole, placement = choose_and_place(snapshot, _changed)
        hasty = HASTY in placement.notes
        gain = float("inf") if hasty else _gain(whole, snapshot, placement, chosen)
    anew = {n: devices_to_load(snapshot, chosen, placement, n) for n in placement.shares if n in snapshot.current}
    moves = tuple(n for n, devices in anew.items() if devices or _shares_change(snapshot, placement, n))
    return Solution(
        _plans(snapshot, placement, chosen, now), gain=gain, moves=moves, load_s=_load_s(chosen, anew), hasty=hasty
    )


def choose_and_place(
    snapshot: PlanningSnapshot, solve: Callable[[Instance, PlanningSnapshot], Placement]
) -> tuple[NetworkChoices, Instance, Placement]:
    """Choose the fastest network for each pair; where these do not fit together, the smallest. Then `solve`."""
    chosen = choose_networks(snapshot)
    whole = build_instance(snapshot, chosen)
    try:
        return chosen, whole, solve(whole, snapshot)
    except instance.NoPlacementError:
        smallest = choose_networks(snapshot, smallest=True)
        if smallest.same(chosen):
            raise
        whole = build_instance(snapshot, smallest)
        return smallest, whole, solve(whole, snapshot)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the solver's errors into those that users get."""
    try:
        yield
    except instance.NoPlacementError as error:
        raise InfeasibleError(error.text) from None
    except instance.InvalidInstanceError as error:
        raise BadInputError(error.text) from None


def solve(whole: Instance, snapshot: PlanningSnapshot, *, bounds: bool = False) -> Placement:
    """Return the placement by the strategy of `snapshot`; `bounds`: of several groups each gets a bound of its own."""
    if snapshot.strategy not in names():
        raise BadInputError(f"there is no strategy {snapshot.strategy!r}", f"there are: {', '.join(names())}")
    return run(whole, snapshot.strategy, time_limit_s=snapshot.time_limit_s, bounds=bounds)


def _changed(whole: Instance, snapshot: PlanningSnapshot) -> Placement:
    """What serves, changed in haste where that will do; else what is near a solution from scratch."""
    return _in_haste(whole, snapshot) or _near(whole, snapshot, solve(whole, snapshot))


def _in_haste(whole: Instance, snapshot: PlanningSnapshot) -> Placement | None:
    """On large sites what serves, with a limited number of changes; None where that would be poor, or impossible.

    What has no place any more is placed, then the bottleneck is improved until the cycle is near the proven bound.
    Where targets are missed, priorities decide who gives way, which changes off the bottleneck do not know.
    """
    shared = any(len(places) > 1 for places in snapshot.current.values())
    large = whole.fps.size >= LARGE and snapshot.strategy in WHOLE
    if not (large and snapshot.hasty and snapshot.current) or shared:
        return None
    budget, numbers = Budget.start(np.inf), Problem.of(whole)
    bound = sweep(numbers, budget, SWEEPS).bound
    rows = change(numbers, assignment_rows(whole, snapshot.current), bound * GOOD_ENOUGH, len(whole.devices))
    if rows is None or (cycle := objective.cycle(numbers, rows)) > bound * POOR:
        return None
    if cycle > 1.0 and len({whole.priorities.get(name, 0) for name in whole.group_names}) > 1:
        return None
    return build(snapshot.strategy, whole, numbers, Answer.of(numbers, rows, bound, notes=(HASTY,)), budget.spent())


def _near(whole: Instance, snapshot: PlanningSnapshot, reference: Placement) -> Placement:
    """The placement nearest to the one that serves which is about as good as `reference`.

    Strategies that do not optimise, and placements with shared nodes, are taken as they are.
    """
    fixed = snapshot.strategy in ("default", "round-robin", "fastest")
    shared = any(len(s) > 1 for s in (*reference.shares.values(), *snapshot.current.values()))
    if not snapshot.current or fixed or shared:
        return reference
    numbers = Problem.of(whole)
    current = assignment_rows(whole, snapshot.current)
    made = assignment_rows(whole, reference.shares)
    rows = near(whole, numbers, current, made)
    if (rows == made).all():
        return reference
    answer = Answer.of(numbers, rows, min(reference.bound_s, objective.cycle(numbers, rows)))
    return build(reference.strategy, whole, numbers, answer, reference.seconds)


def _gain(whole: Instance, snapshot: PlanningSnapshot, placement: Placement, chosen: NetworkChoices) -> float:
    """How much better `placement` is than what serves now; infinite when that cannot serve all nodes.

    Several groups are compared as plans are: the first level that differs by more than :data:`TOLERANCE` counts.
    """
    shares, numbers = _shares(whole, snapshot.current), Problem.of(whole)
    now = _serving(whole, snapshot, chosen)
    if now is None or objective.breaches(numbers, shares):
        return float("inf")
    before, after = Problem.of(now), _shares(whole, placement.shares)
    if len(whole.group_names) == 1:
        return objective.share_cycle(before, shares) / objective.share_cycle(numbers, after)
    return levels.gain(whole, levels.ratios(now, before, shares), levels.ratios(whole, numbers, after), TOLERANCE)


def _shares(whole: Instance, by_name: Mapping[str, Mapping[str, float]]) -> FloatArray:
    """Return M×D shares; 0 for devices that are gone."""
    shares, column = np.zeros(whole.fps.shape), {device: j for j, device in enumerate(whole.devices)}
    for i, node in enumerate(whole.models):
        for device, share in by_name.get(node, {}).items():
            if device in column:
                shares[i, column[device]] = share
    return shares


def _serving(whole: Instance, snapshot: PlanningSnapshot, chosen: NetworkChoices) -> Instance | None:
    """Return `whole` with the networks that serve now; None if one of them may serve no longer."""
    now = serving(snapshot)
    pairs = [(n, d) for n in whole.models for d in snapshot.current.get(n, {}) if d in whole.devices]
    if any(pair not in now for pair in pairs):
        return None
    if all(now[pair] == chosen.get(pair) for pair in pairs):
        return whole
    return build_instance(snapshot, {**chosen, **{pair: now[pair] for pair in pairs}})


@dataclass(frozen=True)
class Prediction:
    """What all groups that serve reach together, by what is known now."""

    fps: Mapping[str, float]
    """By group."""
    limits: Mapping[str, str]
    """By group: the device, or the host's cores, that it waits for."""
    cores: Mapping[str, Mapping[str, float]]
    """By group, then host: seconds of all usable cores per frame."""


NOTHING = Prediction({}, {}, {})
"""Where nothing serves, or not all is known."""


def predict(snapshot: PlanningSnapshot) -> Prediction:
    """Return the FPS of `snapshot`'s groups on the devices where they serve now.

    Groups that stand still, since a device is lost or runs a network of theirs no more, are left out.
    """
    chosen = serving(snapshot)
    groups = tuple(group for group in snapshot.groups if _serves(snapshot, group, chosen))
    if not groups:
        return NOTHING
    try:
        with translated():
            now = build_instance(replace(snapshot, groups=groups), chosen)
            numbers = Problem.of(now)
    except (InfeasibleError, BadInputError):
        return NOTHING
    shares = _shares(now, snapshot.current)
    rates = objective.group_rates(now, numbers, shares)
    return Prediction(
        rates, objective.limits(now, numbers, shares, rates), objective.host_seconds(now, numbers, shares)
    )


def _serves(snapshot: PlanningSnapshot, group: GroupRecord, chosen: NetworkChoices) -> bool:
    """Whether all nodes of `group` serve where they are."""
    nodes = [node_name(group, node) for node in group.spec.depth_first()]
    return all((node, device) in chosen for node in nodes for device in snapshot.current.get(node, {}))


def _shares_change(snapshot: PlanningSnapshot, placement: Placement, node: str) -> bool:
    """Whether a node changes its devices, or its share of one."""
    before, after = snapshot.current[node], placement.shares[node]
    return set(before) != set(after) or any(abs(before[d] - after[d]) > SHARE_CHANGE for d in after)


def _load_s(chosen: NetworkChoices, anew: Mapping[str, tuple[str, ...]]) -> float:
    """Seconds the device with most to load spends loading."""
    spent: dict[str, float] = {}
    for node, devices in anew.items():
        for device in devices:
            spent[device] = spent.get(device, 0.0) + chosen[node, device].profile.load_ms / 1e3
    return max(spent.values(), default=0.0)


def _plans(snapshot: PlanningSnapshot, placement: Placement, chosen: NetworkChoices, now: float) -> dict[str, Plan]:
    """Split a placement of all groups into their plans."""
    plans = {}
    why = explained(placement, chosen, snapshot.all_works)
    variants = variants_of(placement, chosen)
    for group in snapshot.groups:
        nodes = {n: node_name(group, n) for n in group.spec.depth_first()}
        plans[group.spec.name] = Plan(
            epoch=1,
            group=group,
            shares={n: dict(placement.shares[name]) for n, name in nodes.items()},
            variants={n: variants[name] for n, name in nodes.items() if name in variants},
            strategy=placement.strategy,
            fps=placement.group_fps.get(group.spec.name, placement.fps),
            bound_fps=placement.bound_of(group.spec.name),
            explanation={n: why.get(name, "") for n, name in nodes.items()},
            pieces={n: round(p, 4) for n, name in nodes.items() if (p := snapshot.all_works[name].pieces) != 1.0},
            unmet=group.spec.name in placement.unmet,
            made_at=now,
        )
    return plans
