"""What always holds of the scheduler's state, whatever happened: for tests. Pure; production never asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hams_shared.wire.messages.plan import Plan, PlanRecord

if TYPE_CHECKING:
    from hams_scheduler.state import SchedulerState


class StateError(AssertionError):
    """The state contradicts itself: a defect, never a condition of the outside world."""


def check(holds: bool, text: str) -> None:
    """Raise StateError with `text` unless it `holds`."""
    if not holds:
        raise StateError(text)


def validate(state: SchedulerState) -> None:
    """Raise StateError unless plans, benchmarks, wishes and refusals fit together."""
    for group, record in state.plans.items():
        _record(group, record)
        check(state.epoch >= record.newest, f"epoch {state.epoch} is below {record.newest} of group {group}")
        _refused(state, group, record)
    _benchmarks(state)
    _wishes(state)
    for what, names in (("refusals", {group for group, _ in state.refused}), ("errors", set(state.errors))):
        check(names <= state.groups.keys(), f"{what} of groups that are not deployed: {names - state.groups.keys()}")
    known = state.adopting & state.groups.keys()
    check(not known, f"groups that are deployed are being written back: {known}")


def _record(group: str, record: PlanRecord) -> None:
    check(record.group == group, f"the plan of {group} is that of {record.group}")
    for plan in (record.active, record.next):
        if plan is not None:
            _plan(group, plan)
    if record.active is not None and record.next is not None:
        check(record.next.epoch > record.active.epoch, f"the next plan of {group} is not newer than the active one")


def _plan(group: str, plan: Plan) -> None:
    check(plan.group.spec.name == group, f"plan {plan.epoch} of {group} is made for {plan.group.spec.name}")
    check(plan.shares.keys() == plan.group.spec.nodes.keys(), f"plan {plan.epoch} of {group} misses or adds nodes")
    shared = all(places and all(share > 0 for share in places.values()) for places in plan.shares.values())
    check(shared, f"plan {plan.epoch} of {group} leaves a node without a device")


def _refused(state: SchedulerState, group: str, record: PlanRecord) -> None:
    """A plan is not kept that a living device refused, unless another is wanted, or there is none."""
    if record.next is None or not state.leading or state.forced or state.solving or group in state.errors:
        return
    for device in record.next.devices & state.live.peers.keys():
        refused = (group, state.incarnation(device)) in state.refused
        check(not refused, f"{device} refused group {group} and is in its next plan")


def _benchmarks(state: SchedulerState) -> None:
    strange = state.profiling.keys() - set(state.alive())
    check(not strange, f"devices that are not there are benchmarked: {strange}")
    keys = [cell.key for cell, _ in state.profiling.values()]
    check(len(keys) == len(set(keys)), "a cell is measured twice at once")
    for device, (cell, incarnation) in state.profiling.items():
        check(incarnation == state.incarnation(device), f"a benchmark of an earlier life of {device} is waited for")
        record = state.devices[device]
        if record.incarnation == incarnation:
            check(record.fingerprint in cell.key.split("."), f"{device} measures a cell of another device")


def _wishes(state: SchedulerState) -> None:
    check(bool(state.dirty) or not state.forced, "a solution is forced and not wanted")
    check(bool(state.granted[0]) or not state.solving, "nobody knows what is being solved for")
    check(state.generation > 0 or not state.solving, "what is being solved has no generation")
    check(state.leading or not state.profiling.keys() - state.devices.keys(), "a follower waits for a lost device")
