"""From deployed groups, living devices and profiles to an instance, and from a placement back to plans. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from hams_scheduler import instance, objective
from hams_scheduler.instance import FloatArray, Instance
from hams_scheduler.placement import Answer, Placement, assignment_rows, build
from hams_scheduler.problem import Problem
from hams_scheduler.replan import replan
from hams_scheduler.strategies.registry import names, solve
from hams_shared.errors import BadInputError, InfeasibleError
from hams_shared.messages import DeviceRecord, GroupRecord, Plan, ProfileRecord, StrategyAnswer, profile_key

CHILD_WEIGHT = 1.0
"""Inferences per frame of a child node until they are measured: one object a frame."""

SHARE_CHANGE = 0.02
"""A change of a share below this is noise."""


@dataclass(frozen=True)
class Cell:
    """One cell of the FPS matrix: which measurement it is, and how to ask for it."""

    key: str
    model: str
    digest: str
    input_shape: tuple[int, ...]
    dtype: str


def cell_of(group: GroupRecord, node: str, device: DeviceRecord) -> Cell:
    """The cell that says how fast `node` of `group` is on `device`."""
    model = group.models[node]
    spec = group.spec.nodes[node].input
    shape = spec.shape()
    key = profile_key(model.digest, shape, device.fingerprint, device.runtime, device.precisions[0])
    return Cell(key, model.name, model.digest, shape, spec.dtype)


@dataclass(frozen=True)
class Situation:
    """A frozen picture of all that a solution depends on."""

    groups: tuple[GroupRecord, ...]
    devices: tuple[DeviceRecord, ...]
    profiles: Mapping[str, ProfileRecord]
    unanswered: Mapping[tuple[str, str], str]
    """By (device, cell key): why a benchmark gave nothing."""
    refused: Mapping[tuple[str, str], str]
    """By (group, device): why the agent will not serve it."""
    strategy: str
    time_limit_s: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    """By ``group/node``: learned inferences per frame; the group file's where there is none."""
    kappa: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """By (device, resident nodes): learned interference; 1 where there is none."""
    current: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By ``group/node``: the shares that serve now."""


@dataclass(frozen=True)
class GroupSolution:
    """One group's part of a solution; the plan has no epoch of its own yet."""

    record: GroupRecord
    plan: Plan


@dataclass(frozen=True)
class Solution:
    """What the solver answers."""

    groups: dict[str, GroupSolution]
    gain: float = float("inf")
    """Predicted FPS over that of the placement that serves now, both by what is known now; infinite if that cannot."""
    moves: tuple[str, ...] = ()
    """Nodes, ``group/node``, that change their device."""
    load_s: float = 0.0
    """Time the device with most to load needs for it, s."""


def node_name(group: GroupRecord, node: str) -> str:
    """A node's name among all groups."""
    return f"{group.spec.name}/{node}"


def build_instance(situation: Situation) -> Instance:
    """Arrange `situation` as an instance; rows are the nodes of all groups, ``group/node``.

    Raises:
        InfeasibleError: some node runs on no device, with the reason for each device.
    """
    rows = [(group, node) for group in situation.groups for node in group.spec.depth_first()]
    fps = np.zeros((len(rows), len(situation.devices)))
    memory = np.zeros(len(rows))
    weights = np.ones(len(rows))
    pins: dict[str, frozenset[str]] = {}
    groups: dict[str, str] = {}
    for i, (group, node) in enumerate(rows):
        spec = group.spec.nodes[node]
        prior = spec.weight or (1.0 if spec.parent is None else CHILD_WEIGHT)
        weights[i] = situation.weights.get(node_name(group, node), prior)
        groups[node_name(group, node)] = group.spec.name
        reasons = []
        for j, device in enumerate(situation.devices):
            profile, reason = _look_up(situation, group, node, device)
            if profile is None or reason:
                reasons.append(f"{device.device}: {reason or 'not measured yet'}")
                continue
            fps[i, j] = profile.fps
            memory[i] = max(memory[i], profile.memory_mib)
        if spec.pin:
            pins[node_name(group, node)] = frozenset(spec.pin)
        if not fps[i].any():
            raise InfeasibleError(
                f"node {node_name(group, node)} runs on no device: {'; '.join(reasons) or 'there is none'}"
            )
    return Instance(
        models=tuple(node_name(group, node) for group, node in rows),
        devices=tuple(d.device for d in situation.devices),
        fps=fps,
        weights=weights,
        memory_mib=memory,
        capacity_mib=np.array([float(d.memory_mib) if d.memory_mib > 0 else np.inf for d in situation.devices]),
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


def _look_up(
    situation: Situation, group: GroupRecord, node: str, device: DeviceRecord
) -> tuple[ProfileRecord | None, str]:
    """The measurement of a pair, and why it cannot be used, if so."""
    cell = cell_of(group, node, device)
    profile = situation.profiles.get(cell.key)
    refusal = situation.refused.get((group.spec.name, device.device))
    if refusal:
        return profile, f"refused: {refusal}"
    if profile is None:
        return None, situation.unanswered.get((device.device, cell.key), "")
    return profile, profile.reason or ""


def place(situation: Situation) -> Placement:
    """Solve `situation` with its strategy, from scratch.

    Raises:
        InfeasibleError: no placement keeps support, pins and memory.
        BadInputError: there is no such strategy.
    """
    with _translated():
        return _solve(build_instance(situation), situation)


def decide(situation: Situation, now: float) -> Solution:
    """Solve `situation`, moving as few of the nodes that serve now as that allows. Raises as :func:`place`."""
    with _translated():
        whole = build_instance(situation)
        reference = _solve(whole, situation)
        placement = _near(whole, situation, reference)
        gain = _gain(whole, situation, placement)
    moves = tuple(n for n in placement.shares if n in situation.current and _moved(situation, placement, n))
    return Solution(_split(situation, placement, now), gain, moves, _load_s(situation, placement, moves))


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
    shares = np.zeros(whole.fps.shape)
    for i, node in enumerate(whole.models):
        for device, share in situation.current.get(node, {}).items():
            if device in column:
                shares[i, column[device]] = share
    numbers = Problem.of(whole)
    if objective.breaches(numbers, shares):
        return float("inf")
    rows = np.array([[placement.shares[n].get(d, 0.0) for d in whole.devices] for n in whole.models])
    return objective.share_cycle(numbers, shares) / objective.share_cycle(numbers, rows)


def _moved(situation: Situation, placement: Placement, node: str) -> bool:
    """Whether a node goes to a device it was not on, or another share of it does."""
    before, after = situation.current[node], placement.shares[node]
    return set(before) != set(after) or any(abs(before[d] - after[d]) > SHARE_CHANGE for d in after)


def _load_s(situation: Situation, placement: Placement, moves: tuple[str, ...]) -> float:
    """Seconds the device with most to load spends loading."""
    devices = {d.device: d for d in situation.devices}
    spent: dict[str, float] = {}
    for group in situation.groups:
        for node in group.spec.depth_first():
            name = node_name(group, node)
            if name not in moves:
                continue
            for device in placement.shares[name].keys() - situation.current[name].keys():
                profile = situation.profiles.get(cell_of(group, node, devices[device]).key)
                spent[device] = spent.get(device, 0.0) + (profile.load_ms / 1e3 if profile else 0.0)
    return max(spent.values(), default=0.0)


def _split(situation: Situation, placement: Placement, now: float) -> dict[str, GroupSolution]:
    """A placement of all groups as plans (epoch 1, to be replaced)."""
    groups = {}
    for group in situation.groups:
        shares = {n: dict(placement.shares[node_name(group, n)]) for n in group.spec.depth_first()}
        why = {n: placement.explanation.get(node_name(group, n), "") for n in group.spec.depth_first()}
        plan = Plan(
            epoch=1,
            group=group,
            shares=shares,
            strategy=placement.strategy,
            fps=placement.group_fps.get(group.spec.name, placement.fps),
            bound_fps=placement.bound_fps,
            explanation=why,
            unmet=group.spec.name in placement.unmet,
            made_at=now,
        )
        groups[group.spec.name] = GroupSolution(group, plan)
    return groups


def to_answer(placement: Placement) -> StrategyAnswer:
    """A placement of one group as it is told to a person; node names lose their group."""
    return StrategyAnswer(
        strategy=placement.strategy,
        shares={n.split("/", 1)[-1]: dict(s) for n, s in placement.shares.items()},
        fps=placement.fps,
        bound_fps=placement.bound_fps,
        gap=placement.gap,
        seconds=placement.seconds,
        busy=dict(placement.busy),
        bottleneck=placement.bottleneck,
        explanation={n.split("/", 1)[-1]: text for n, text in placement.explanation.items()},
    )
