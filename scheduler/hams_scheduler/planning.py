"""From deployed groups, living devices and profiles to an instance, and from a placement back to plans. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hams_scheduler import instance
from hams_scheduler.instance import Instance
from hams_scheduler.placement import Placement
from hams_scheduler.strategies.registry import names, solve
from hams_shared.errors import BadInputError, InfeasibleError
from hams_shared.messages import DeviceRecord, GroupRecord, Plan, ProfileRecord, StrategyAnswer, profile_key

CHILD_WEIGHT = 1.0
"""Inferences per frame of a child node until they are measured: one object a frame."""


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
class Problem:
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


@dataclass(frozen=True)
class GroupSolution:
    """One group's part of a solution; the plan has no epoch of its own yet."""

    record: GroupRecord
    plan: Plan


@dataclass(frozen=True)
class Solution:
    """What the solver answers."""

    groups: dict[str, GroupSolution]


def node_name(group: GroupRecord, node: str) -> str:
    """A node's name among all groups."""
    return f"{group.spec.name}/{node}"


def build_instance(problem: Problem) -> Instance:
    """Arrange `problem` as an instance; rows are the nodes of all groups, ``group/node``.

    Raises:
        InfeasibleError: some node runs on no device, with the reason for each device.
    """
    rows = [(group, node) for group in problem.groups for node in group.spec.depth_first()]
    fps = np.zeros((len(rows), len(problem.devices)))
    memory = np.zeros(len(rows))
    weights = np.ones(len(rows))
    pins: dict[str, frozenset[str]] = {}
    groups: dict[str, str] = {}
    for i, (group, node) in enumerate(rows):
        spec = group.spec.nodes[node]
        weights[i] = spec.weight or (1.0 if spec.parent is None else CHILD_WEIGHT)
        groups[node_name(group, node)] = group.spec.name
        reasons = []
        for j, device in enumerate(problem.devices):
            profile, reason = _look_up(problem, group, node, device)
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
        devices=tuple(d.device for d in problem.devices),
        fps=fps,
        weights=weights,
        memory_mib=memory,
        capacity_mib=np.array([float(d.memory_mib) if d.memory_mib > 0 else np.inf for d in problem.devices]),
        pins=pins,
        groups=groups,
        targets={g.spec.name: g.spec.target_fps for g in problem.groups if g.spec.target_fps is not None},
        priorities={g.spec.name: g.spec.priority for g in problem.groups},
        hosts={d.device: d.host for d in problem.devices},
    )


def _look_up(problem: Problem, group: GroupRecord, node: str, device: DeviceRecord) -> tuple[ProfileRecord | None, str]:
    """The measurement of a pair, and why it cannot be used, if so."""
    cell = cell_of(group, node, device)
    profile = problem.profiles.get(cell.key)
    refusal = problem.refused.get((group.spec.name, device.device))
    if refusal:
        return profile, f"refused: {refusal}"
    if profile is None:
        return None, problem.unanswered.get((device.device, cell.key), "")
    return profile, profile.reason or ""


def place(problem: Problem) -> Placement:
    """Solve `problem` with its strategy.

    Raises:
        InfeasibleError: no placement keeps support, pins and memory.
        BadInputError: there is no such strategy.
    """
    if problem.strategy not in names():
        raise BadInputError(f"there is no strategy {problem.strategy!r}", f"there are: {', '.join(names())}")
    try:
        return solve(build_instance(problem), problem.strategy, time_limit_s=problem.time_limit_s)
    except instance.InfeasibleError as error:
        raise InfeasibleError(error.text) from None
    except instance.InvalidInstanceError as error:
        raise BadInputError(error.text) from None


def to_solution(problem: Problem, placement: Placement, now: float) -> Solution:
    """Split a placement of all groups into plans (epoch 1, to be replaced)."""
    groups = {}
    for group in problem.groups:
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
            made_at=now,
        )
        groups[group.spec.name] = GroupSolution(group, plan)
    return Solution(groups)


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
