"""From deployed groups, living devices and profiles to an instance, and from a placement back to plans. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from hams_scheduler.planning_snapshot import Situation, node_name
from hams_scheduler.solver import instance, objective
from hams_scheduler.solver.instance import FloatArray, Instance
from hams_scheduler.solver.placement import Answer, Placement, assignment_rows, build
from hams_scheduler.solver.problem import Problem
from hams_scheduler.solver.replan import replan
from hams_scheduler.solver.strategies.registry import names, solve
from hams_scheduler.variant_candidates import Cell, candidates
from hams_scheduler.variant_choice import (
    Choices,
    capacity_mib,
    choices,
    explained,
    fresh,
    loaded_fps,
    memory_mib,
    variants_of,
)
from hams_shared.errors import BadInputError, InfeasibleError
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import StrategyAnswer

__all__ = ["Cell", "Situation", "Solution", "answer", "build_instance", "cell_of", "decide", "node_name", "place"]

CHILD_WEIGHT = 1.0
"""Inferences per frame of a child node until they are measured: one object a frame."""

SHARE_CHANGE = 0.02
"""A change of a share below this is noise."""


def cell_of(group: GroupRecord, node: str, device: DeviceRecord) -> Cell:
    """The cell that says how fast the source of `node` of `group` is on `device`."""
    return candidates(group, node, {})[0].cell(device)


@dataclass(frozen=True)
class GroupSolution:
    """One group's part of a solution; the plan has no epoch of its own yet."""

    record: GroupRecord
    plan: Plan


@dataclass(frozen=True)
class Solution:
    """What the solver answers."""

    groups: dict[str, GroupSolution]
    failed: Mapping[str, InfeasibleError] = field(default_factory=dict)
    """By group: why it was left out. The others are placed without it."""
    gain: float = float("inf")
    """Predicted FPS over that of the placement that serves now, both by what is known now; infinite if that cannot."""
    moves: tuple[str, ...] = ()
    """Nodes, ``group/node``, that change their device, or the network they have there."""
    load_s: float = 0.0
    """Time the device with most to load needs for it, s."""


def build_instance(situation: Situation, chosen: Choices | None = None) -> Instance:
    """Arrange `situation` as an instance; rows are the nodes of all groups, ``group/node``.

    A pair's FPS and memory are those of the network `chosen` for it (default: :func:`choices`).

    Raises:
        InfeasibleError: some node runs on no device, with the reason for each device.
    """
    chosen = choices(situation) if chosen is None else chosen
    rows = [(group, node) for group in situation.groups for node in group.spec.depth_first()]
    fps = np.zeros((len(rows), len(situation.devices)))
    memory = np.zeros(fps.shape)
    weights = np.ones(len(rows))
    pins: dict[str, frozenset[str]] = {}
    groups: dict[str, str] = {}
    for i, (group, node) in enumerate(rows):
        spec, name = group.spec.nodes[node], node_name(group, node)
        prior = spec.weight or (1.0 if spec.parent is None else CHILD_WEIGHT)
        weights[i] = situation.weights.get(name, prior)
        groups[name] = group.spec.name
        for j, device in enumerate(situation.devices):
            choice = chosen.get((name, device.device))
            if choice is not None:
                fps[i, j] = 1.0 / (1.0 / choice.profile.fps + situation.overhead.get(device.device, 0.0))
                memory[i, j] = memory_mib(situation, choice.candidate)
        if spec.pin:
            pins[name] = frozenset(spec.pin)
        usable = [not spec.pin or device.device in spec.pin for device in situation.devices]
        if not fps[i, usable].any():
            raise InfeasibleError(f"node {name} runs on no device: {_why_nowhere(situation, group, node)}")
    return Instance(
        models=tuple(node_name(group, node) for group, node in rows),
        devices=tuple(d.device for d in situation.devices),
        fps=fps,
        weights=weights,
        memory_mib=memory,
        capacity_mib=np.array([capacity_mib(d) for d in situation.devices]),
        pins=pins,
        groups=groups,
        targets={g.spec.name: g.spec.target_fps for g in situation.groups if g.spec.target_fps is not None},
        priorities={g.spec.name: g.spec.priority for g in situation.groups},
        hosts={d.device: d.host for d in situation.devices},
        cpu_devices=frozenset(d.device for d in situation.devices if d.kind == "cpu"),
        kappa=_kappa(situation, len(rows)),
    )


def _kappa(situation: Situation, rows: int) -> FloatArray | None:
    """The learned interference as D×K, K = number of nodes; None when nothing was learned."""
    if not situation.kappa:
        return None
    return np.array([[situation.kappa.get((d.device, k), 1.0) for k in range(1, rows + 1)] for d in situation.devices])


def _why_nowhere(situation: Situation, group: GroupRecord, node: str) -> str:
    """The reason of each device that it may run on; devices with the same one stand together."""
    pin = group.spec.nodes[node].pin
    reasons: dict[str, list[str]] = {}
    for device in situation.devices:
        if not pin or device.device in pin:
            reasons.setdefault(_why_not(situation, group, node, device), []).append(device.device)
    none = f"it is pinned to {', '.join(pin)}, and there is no such device" if pin else "there is none"
    return "; ".join(f"{', '.join(devices)}: {why}" for why, devices in reasons.items()) or none


def _why_not(situation: Situation, group: GroupRecord, node: str, device: DeviceRecord) -> str:
    """Why the source of `node` does not run on `device`."""
    refusal = situation.refused.get((group.spec.name, device.device))
    if refusal:
        return f"refused: {refusal}"
    key = cell_of(group, node, device).key
    profile = situation.profiles.get(key)
    why = profile.reason if profile is not None else situation.unanswered.get((device.device, key))
    return why or "not measured yet"


def place(situation: Situation) -> Placement:
    """Solve `situation` with its strategy, from scratch.

    Raises:
        InfeasibleError: no placement keeps support, pins and memory.
        BadInputError: there is no such strategy.
    """
    with _translated():
        return _chosen_and_placed(situation)[2]


def decide(situation: Situation, now: float) -> Solution:
    """Solve `situation`, moving as few of the nodes that serve now as that allows.

    Groups that cannot be placed, alone or beside those before them, are left out; the most important comes first,
    then what serves now, then what was deployed first.

    Raises:
        BadInputError: there is no such strategy.
    """
    try:
        return _decided(situation, now)
    except InfeasibleError as error:
        if len(situation.groups) == 1:
            return Solution({}, failed={situation.groups[0].spec.name: error})
    able: tuple[GroupRecord, ...] = ()
    failed: dict[str, InfeasibleError] = {}
    for group in sorted(situation.groups, key=lambda g: _standing(situation, g)):
        try:
            place(replace(situation, groups=(*able, group)))
        except InfeasibleError as error:
            failed[group.spec.name] = error
        else:
            able = (*able, group)
    if not able:
        return Solution({}, failed=failed)
    return replace(_decided(replace(situation, groups=able), now), failed=failed)


def _standing(situation: Situation, group: GroupRecord) -> tuple[int, bool, float]:
    serves = node_name(group, group.spec.root) in situation.current
    return -group.spec.priority, not serves, group.deployed_at


def _decided(situation: Situation, now: float) -> Solution:
    """Solve `situation` with all of its groups. Raises as :func:`place`."""
    with _translated():
        chosen, whole, reference = _chosen_and_placed(situation)
        placement = _near(whole, situation, reference)
        gain = _gain(whole, situation, placement)
    anew = {n: fresh(situation, chosen, placement, n) for n in placement.shares if n in situation.current}
    moves = tuple(n for n, devices in anew.items() if devices or _shared_anew(situation, placement, n))
    return Solution(_split(situation, placement, chosen, now), gain=gain, moves=moves, load_s=_load_s(chosen, anew))


def _chosen_and_placed(situation: Situation) -> tuple[Choices, Instance, Placement]:
    """Choose the fastest network for each pair; where these do not fit together, the smallest."""
    chosen = choices(situation)
    whole = build_instance(situation, chosen)
    try:
        return chosen, whole, _solve(whole, situation)
    except instance.InfeasibleError:
        smallest = choices(situation, smallest=True)
        if smallest == chosen:
            raise
        whole = build_instance(situation, smallest)
        return smallest, whole, _solve(whole, situation)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the solver's errors into those that people see."""
    try:
        yield
    except instance.InfeasibleError as error:
        raise InfeasibleError(error.text) from None
    except instance.InvalidInstanceError as error:
        raise BadInputError(error.text) from None


def _solve(whole: Instance, situation: Situation) -> Placement:
    if situation.strategy not in names():
        raise BadInputError(f"there is no strategy {situation.strategy!r}", f"there are: {', '.join(names())}")
    return solve(whole, situation.strategy, time_limit_s=situation.time_limit_s)


def _near(whole: Instance, situation: Situation, reference: Placement) -> Placement:
    """The placement nearest to the one that serves which is about as good as `reference`.

    Strategies that do not optimise, and placements with shared nodes, are taken as they are.
    """
    fixed = situation.strategy in ("default", "round-robin", "fastest")
    shared = any(len(s) > 1 for s in (*reference.shares.values(), *situation.current.values()))
    if not situation.current or fixed or shared:
        return reference
    numbers = Problem.of(whole)
    current = assignment_rows(whole, situation.current)
    found = replan(numbers, current, assignment_rows(whole, reference.shares))
    bound = objective.cycle(numbers, assignment_rows(whole, reference.shares)) / (1 + reference.gap)
    answer = Answer.of(numbers, found.assign, min(bound, found.cycle))
    return build(reference.strategy, whole, numbers, answer, reference.seconds)


def _gain(whole: Instance, situation: Situation, placement: Placement) -> float:
    """How much better `placement` is than what serves now; infinite when that cannot serve all nodes."""
    column = {device: j for j, device in enumerate(whole.devices)}
    shares, fps = np.zeros(whole.fps.shape), whole.fps.copy()
    now = loaded_fps(situation)
    for i, node in enumerate(whole.models):
        for device, share in situation.current.get(node, {}).items():
            if device in column:
                shares[i, column[device]] = share
                fps[i, column[device]] = now.get((node, device), 0.0)
    if ((shares > 0) & (fps <= 0)).any():
        return float("inf")
    numbers = Problem.of(whole)
    if objective.breaches(numbers, shares):
        return float("inf")
    rows = np.array([[placement.shares[n].get(d, 0.0) for d in whole.devices] for n in whole.models])
    before = objective.share_cycle(Problem.of(whole.replace(fps=fps)), shares)
    return before / objective.share_cycle(numbers, rows)


def _shared_anew(situation: Situation, placement: Placement, node: str) -> bool:
    """Whether a node leaves a device, or another share of it stays there."""
    before, after = situation.current[node], placement.shares[node]
    return set(before) != set(after) or any(abs(before[d] - after[d]) > SHARE_CHANGE for d in after)


def _load_s(chosen: Choices, anew: Mapping[str, tuple[str, ...]]) -> float:
    """Seconds the device with most to load spends loading."""
    spent: dict[str, float] = {}
    for node, devices in anew.items():
        for device in devices:
            spent[device] = spent.get(device, 0.0) + chosen[node, device].profile.load_ms / 1e3
    return max(spent.values(), default=0.0)


def _split(situation: Situation, placement: Placement, chosen: Choices, now: float) -> dict[str, GroupSolution]:
    """A placement of all groups as plans (epoch 1, to be replaced)."""
    groups = {}
    why = explained(placement, chosen)
    variants = variants_of(placement, chosen)
    for group in situation.groups:
        nodes = {n: node_name(group, n) for n in group.spec.depth_first()}
        plan = Plan(
            epoch=1,
            group=group,
            shares={n: dict(placement.shares[name]) for n, name in nodes.items()},
            variants={n: variants[name] for n, name in nodes.items() if name in variants},
            strategy=placement.strategy,
            fps=placement.group_fps.get(group.spec.name, placement.fps),
            bound_fps=placement.bound_fps,
            explanation={n: why.get(name, "") for n, name in nodes.items()},
            unmet=group.spec.name in placement.unmet,
            made_at=now,
        )
        groups[group.spec.name] = GroupSolution(group, plan)
    return groups


def to_answer(placement: Placement, chosen: Choices) -> StrategyAnswer:
    """A placement as it is told to a person; of one group, node names lose it."""
    several = len(placement.group_fps) > 1

    def told(name: str) -> str:
        return name if several else name.split("/", 1)[-1]

    return StrategyAnswer(
        strategy=placement.strategy,
        group_fps=dict(placement.group_fps) if several else {},
        shares={told(n): dict(s) for n, s in placement.shares.items()},
        variants={told(n): v for n, v in variants_of(placement, chosen).items()},
        fps=placement.fps,
        bound_fps=placement.bound_fps,
        gap=placement.gap,
        seconds=placement.seconds,
        busy=dict(placement.busy),
        bottleneck=placement.bottleneck,
        explanation={told(n): text for n, text in explained(placement, chosen).items()},
    )


def answer(situation: Situation) -> StrategyAnswer:
    """What the strategy of `situation` would do; where it uses variants, also what it would do without.

    Raises as :func:`place`.
    """
    with _translated():
        chosen, _, placement = _chosen_and_placed(situation)
    found = to_answer(placement, chosen)
    if not found.variants:
        return found
    try:
        without = place(replace(situation, variants={}))
    except InfeasibleError:
        return found.model_copy(update={"source_fps": 0.0})
    return found.model_copy(update={"source_fps": without.fps})
