"""The FPS to expect of a group now. Pure.

Of a device a group gets what others leave, and turns as many as theirs where they all want more (see
hams_agents.runtime.fair_queue and :func:`fair_rate`). With the seconds of the device that its frames take, as measured,
each of its devices limits its frames/s. So do the cores of a host, with the CPU time of its frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hams_scheduler.planning import NOTHING, Prediction
from hams_scheduler.solver.objective import cores_of
from hams_scheduler.state import SchedulerState
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.plan import Plan

SEEN_FRAMES = 30.0
"""The seconds per frame that the plan counted with weigh as much as this many measured frames."""
BUSY = 0.8
"""A device that computes for this part of the time or more is what a group waits for."""
REACHED = 0.85
"""A group that does this part of what is expected reaches it."""
SOME = 0.01
"""A device that computes for less than this part of the time for a group does as good as nothing for it."""


@dataclass
class Costs:
    """What is known of devices and groups, found once for all groups of one view."""

    spent: dict[tuple[str, str], float] = field(default_factory=dict)
    """By (group, device): seconds of the device per frame of the group; 0: unknown."""
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    """By device, then group that has an active plan there: the part of the last seconds that it computed for it."""
    rates: dict[str, float] = field(default_factory=dict)
    """By group: frames/s now."""
    turns: dict[str, float] = field(default_factory=dict)
    """By group: frames where all groups of its devices have all they can take, relative to other groups."""


@dataclass(frozen=True)
class Expected:
    """The FPS to expect of one group."""

    fps: float
    why: str = ""
    """Why it is less than the plan's, or why it is not reached; empty: it is as planned."""


def expected(
    state: SchedulerState, group: str, predicted: Prediction = NOTHING, costs: Costs | None = None
) -> Expected | None:
    """Frames/s of `group` under the present load; None: it has no active plan, or nothing is known of its nodes.

    `costs` keep what is known of its devices, for all groups of one view.
    """
    plan = state.plans.active(group)
    if plan is None:
        return None
    costs = Costs() if costs is None else costs
    spent = {device: _spent(state, plan, device, costs) for device in plan.devices}
    reached = {device: _reached(state, plan, device, costs) for device, s in spent.items() if s > 0}
    if not reached:
        return None
    device = min(sorted(reached), key=lambda d: reached[d])
    now = _rate(state, group, costs)
    host, fps = _by_cores(state, group, predicted, costs)
    if fps < reached[device]:
        several = len([by_host for by_host in predicted.cores.values() if by_host.get(host)]) > 1
        why = f"{cores_of(host)} are shared with other groups" if several and fps < REACHED * plan.fps else ""
        return Expected(fps, f"{cores_of(host)} are not full" if 0 < now < REACHED * fps else why)
    fps = reached[device]
    if 0 < now < REACHED * fps:
        return Expected(fps, _not_reached(state, device, costs))
    others = {g: part for g, part in _parts(state, device, costs).items() if g != group and part >= SOME}
    if others and fps < REACHED * plan.fps:
        return Expected(fps, f"{device} also works for {_listed(others)}")
    return Expected(fps)


def _by_cores(state: SchedulerState, group: str, predicted: Prediction, costs: Costs) -> tuple[str, float]:
    """The host whose cores limit the group most, and the frames/s that they allow; infinite where none does."""
    found = [("", float("inf"))]
    for host, cost in predicted.cores.get(group, {}).items():
        if cost > 0:
            each = {g: by_host[host] for g, by_host in predicted.cores.items() if g != group and by_host[host] > 0}
            mine = _turn(state, group, costs)
            others = [(_rate(state, g, costs) * s, _turn(state, g, costs) / mine * s) for g, s in each.items()]
            found.append((host, fair_rate(1.0, cost, others)))
    return min(found, key=lambda one: one[1])


def fair_rate(capacity: float, cost: float, others: Iterable[tuple[float, float]]) -> float:
    """The rate at which one that takes `cost` (> 0) of `capacity` each time fills it beside others, shared fairly.

    `others` have, each, the part that they take now, and what they would take for each time of ours with fair turns:
    nobody takes more than now, and those that would get more than their turns give way.
    """
    unbounded = sorted((part / each if each > 0 else 0.0, part, each) for part, each in others)
    left, slope = capacity, cost + sum(each for _, _, each in unbounded)
    for enough, part, each in unbounded:
        if enough * slope >= left:
            break
        left, slope = left - part, slope - each
    return max(left, 0.0) / slope


def _turn(state: SchedulerState, group: str, costs: Costs) -> float:
    """Frames of `group`, relative to others, where all have all they can take; devices' queues go by the same."""
    if group not in costs.turns:
        spec = _spec(state, group)
        costs.turns[group] = (spec.target_fps or 1.0) * spec.share
    return costs.turns[group]


def _rate(state: SchedulerState, group: str, costs: Costs) -> float:
    """Frames/s of `group` now."""
    if group not in costs.rates:
        costs.rates[group] = state.measured_fps(group)
    return costs.rates[group]


def _spent(state: SchedulerState, plan: Plan, device: str, costs: Costs) -> float:
    """Seconds of `device` per frame of the plan's group, 0 when unknown; found once for all that ask."""
    key = plan.group.spec.name, device
    if key not in costs.spent:
        costs.spent[key] = _find_spent(state, plan, device)
    return costs.spent[key]


def _find_spent(state: SchedulerState, plan: Plan, device: str) -> float:
    """As planned at first, as measured then."""
    group = plan.group.spec.name
    planned = 0.0
    on_device = state.plans.nodes_on(device)
    for node in on_device[group]:
        if node in plan.group.spec.slow:
            continue  # it runs beside the others
        fps = state.fps_of(group, node, device)
        if not fps:
            return state.learned.spent_s(group, device, 0.0, 0.0)
        planned += plan.share(node, device) * state.work(plan.group, node).weight / fps
    resident = sum(len(nodes) for nodes in on_device.values())
    return state.learned.spent_s(group, device, planned * state.learned.kappa(device, resident), SEEN_FRAMES)


def _reached(state: SchedulerState, plan: Plan, device: str, costs: Costs) -> float:
    """Frames/s that the device allows the plan's group."""
    me = plan.group.spec
    parts = {group: part for group, part in _parts(state, device, costs).items() if group != me.name}
    first = sum(part for group, part in parts.items() if _spec(state, group).priority > me.priority)
    equal = [group for group in parts if _spec(state, group).priority == me.priority]
    each = {g: _spent(state, active, device, costs) for g in equal if (active := state.plans.active(g))}
    mine = _turn(state, me.name, costs)
    others = [(parts[g], _turn(state, g, costs) / mine * one) for g, one in each.items()]
    return fair_rate(1.0 - first, _spent(state, plan, device, costs), others)


def _parts(state: SchedulerState, device: str, costs: Costs) -> dict[str, float]:
    """By group that has an active plan there: the part of the last seconds that the device computed for it."""
    if device not in costs.parts:
        active = state.plans.active_on(device)
        costs.parts[device] = {group: state.learned.load(group, device) for group in active}
    return costs.parts[device]


def _spec(state: SchedulerState, group: str) -> GroupSpec:
    active = state.plans.active(group)
    assert active is not None
    return active.group.spec


def _not_reached(state: SchedulerState, device: str, costs: Costs) -> str:
    busy = sum(_parts(state, device, costs).values())
    if busy >= BUSY:
        return f"{device} computes {busy:.0%} of the time; the rest goes between frames"
    return f"{device} computes {busy:.0%} of the time only: its streams bring no more, or wait elsewhere"


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{group} {part:.0%}" for group, part in sorted(parts.items(), key=lambda one: -one[1]))
