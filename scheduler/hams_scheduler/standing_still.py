"""Groups whose active plan a device does not carry out any more: it is lost, or it refuses its part. Pure.

Such a group gives no results, or too few, so it does not wait for benchmarks that others need.
"""

from __future__ import annotations

from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.plan import Plan


def stands_still(state: SchedulerState, group: str) -> bool:
    """Whether a device of the active plan of `group` is lost, refuses the plan, or runs a network of it no more."""
    plan = state.plans.active(group)
    if plan is None:
        return False
    if not plan.devices <= set(state.devices.alive()) or is_refused(state, plan):
        return True
    return any(
        plan.model_on(node, device).digest in out
        for device in plan.devices
        if (out := state.devices.faulty(device))
        for node in plan.nodes_on(device)
    )


def some_stand_still(state: SchedulerState) -> bool:
    """Whether this holds for some group that serves."""
    return any(stands_still(state, group) for group in state.plans.records)


def is_refused(state: SchedulerState, plan: Plan) -> bool:
    """Whether a device of `plan` reports that it refuses it. An agent never takes a plan that it refused before."""
    peers = (state.devices.live.peers.get(device) for device in plan.devices)
    return any(
        one.group == plan.group.spec.name and one.epoch == plan.epoch and one.state == "refused"
        for peer in peers
        if peer is not None
        for one in peer.heartbeat.assignments
    )
