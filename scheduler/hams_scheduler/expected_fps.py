"""What a group can be expected to do now, beside all that its devices do for others, and what keeps it from more. Pure.

Of a device a group has what others leave, or its fair part where that is more (see hams_agents.runtime.fair_queue).
With s its seconds of the device per frame, as measured, it reaches the least of `available / s` over its devices.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Expected:
    """One group's."""

    fps: float
    why: str = ""
    """Why it is less than what the plan promised, or why it is not reached; empty: it is as planned."""


def expected(state: SchedulerState, group: str) -> Expected | None:
    """Frames/s of `group` under the present load; None: it has no active plan, or nothing is known of its nodes."""
    record = state.plans.get(group)
    plan = record.active if record is not None else None
    if plan is None:
        return None
    spent = {device: _spent(state, plan, device) for device in plan.devices}
    reached = {device: _available(state, plan, device) / s for device, s in spent.items() if s > 0}
    if not reached:
        return None
    device = min(sorted(reached), key=lambda d: reached[d])
    fps = reached[device]
    now = state.learned.measured_fps(group)
    if 0 < now < REACHED * fps:
        return Expected(fps, _not_reached(state, device))
    others = {g: part for g, part in _parts(state, device).items() if g != group and part >= SOME}
    if others and fps < REACHED * plan.fps:
        return Expected(fps, f"{device} also works for {_listed(others)}")
    return Expected(fps)


def _spent(state: SchedulerState, plan: Plan, device: str) -> float:
    """Seconds of `device` per frame of the plan's group, 0 when unknown: as planned at first, as measured then."""
    group = plan.group.spec.name
    planned = 0.0
    nodes = plan.nodes_on(device)
    for node in nodes:
        fps = state.fps_of(group, node, device)
        if not fps:
            return state.learned.spent_s(group, device, 0.0, 0.0)
        planned += plan.share(node, device) * state.weight(plan.group, node) / fps
    resident = sum(len(p.active.nodes_on(device)) for p in state.plans.values() if p.active is not None)
    return state.learned.spent_s(group, device, planned * state.learned.kappa(device, resident), SEEN_FRAMES)


def _available(state: SchedulerState, plan: Plan, device: str) -> float:
    """The part of the device's time that the group has, 0-1."""
    me = plan.group.spec
    parts = _parts(state, device)
    left = 1.0 - sum(part for group, part in parts.items() if group != me.name)
    first = sum(part for group, part in parts.items() if _spec(state, group).priority > me.priority)
    others = [_spec(state, group) for group, part in parts.items() if part >= SOME and group != me.name]
    shares = sum(spec.share for spec in others if spec.priority == me.priority)
    fair = (1.0 - first) * me.share / (me.share + shares)
    return min(max(left, fair, 0.0), 1.0)


def _parts(state: SchedulerState, device: str) -> dict[str, float]:
    """By group that has an active plan there: the part of the last seconds that the device computed for it."""
    active = {g: r.active for g, r in state.plans.items() if r.active is not None and device in r.active.devices}
    return {group: state.learned.load(group, device) for group in sorted(active)}


def _spec(state: SchedulerState, group: str) -> GroupSpec:
    active = state.plans[group].active
    assert active is not None
    return active.group.spec


def _not_reached(state: SchedulerState, device: str) -> str:
    busy = sum(_parts(state, device).values())
    if busy >= BUSY:
        return f"{device} computes {busy:.0%} of the time; the rest goes between frames"
    return f"{device} computes {busy:.0%} of the time only: its streams bring no more, or wait elsewhere"


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{group} {part:.0%}" for group, part in sorted(parts.items(), key=lambda one: -one[1]))
