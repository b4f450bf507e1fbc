"""Groups that a solution leaves out: which of their plans stay in force, and the memory that these keep. Pure."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from hams_scheduler.plan_memory import most_mib, networks_of
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.plan import PlanRecord


def what_stays(state: SchedulerState, record: PlanRecord, alive: AbstractSet[str]) -> PlanRecord | None:
    """What stays of a group's plans when a solution finds no place for it; None: nothing, others take its place.

    One that lost a device waits for it. One that was changed serves on as before.
    """
    plan = record.active or record.next
    if plan is None or not plan.devices <= alive:
        return record
    if plan.group == state.groups.records.get(record.group):
        return None
    return record if record.next is None else PlanRecord(group=record.group, active=record.active)


def memory_mib(state: SchedulerState, placed: Collection[str], alive: AbstractSet[str]) -> dict[str, dict[str, float]]:
    """By group, then device: memory, MiB, that plans keep if a solution for the groups `placed` gives it no other.

    Plans of groups that are not looked at stay as they are.
    """
    found: dict[str, dict[str, float]] = {}
    for group, record in state.plans.records.items():
        left = what_stays(state, record, alive) if group in placed else record
        if left is not None:
            found[group] = _held_mib(state, left)
    return found


def _held_mib(state: SchedulerState, record: PlanRecord) -> dict[str, float]:
    """By device: memory of the networks of these plans, MiB; what both of them load counts once."""
    networks = {(d, node, one.key_begin): one for d, node, one in networks_of((record.active, record.next))}
    found: dict[str, float] = {}
    for (device, _, _), network in networks.items():
        found[device] = found.get(device, 0.0) + most_mib(state, network)
    return found
