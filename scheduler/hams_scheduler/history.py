"""What the history tells: how the state differs from what was told before. Pure.

What was told is read back from the journal, whichever scheduler told it. So a leader tells what happened while none
led, and nothing twice; a follower only takes what is told. Entries that no state shows, such as a benchmark that
failed, are made where they are decided, by :func:`entry`.
"""

from __future__ import annotations

from typing import Any

from hams_scheduler.events import Tell
from hams_scheduler.history_texts import plan_text
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.history import HistoryEntry, HistoryKind
from hams_shared.wire.messages.plan import Plan, PlanRecord
from hams_shared.wire.subjects import LOST_AFTER_S


def tell(state: SchedulerState, kind: HistoryKind, text: str, reason: str = "", **about: Any) -> None:
    """Tell something with the next :func:`news`."""
    told = state.told
    told.number += 1
    id = f"{state.lease.me}.{state.lease.led}.{told.number}"
    entry = HistoryEntry(id=id, by="scheduler", kind=kind, text=text, reason=reason, **about)
    told.take(entry)
    told.waiting.append(entry)


def news(state: SchedulerState, now: float) -> list[Tell]:
    """Return what is to be told now, in the order in which one thing leads to another; a follower tells nothing."""
    told = state.told
    if state.leading and told.ready:
        _compare(state, now)
    found, told.waiting = told.waiting, []
    return [Tell(entry) for entry in found] if state.leading else []


def _compare(state: SchedulerState, now: float) -> None:
    """Tell how the state differs from what was told."""
    told, settled = state.told, state.settled(now)
    at = (state.devices.revision, state.groups.revision, state.plans.revision, settled)
    if at == told.at and told.errors == state.groups.errors:
        return
    _devices(state, settled)
    _groups(state)
    _plans(state)
    _errors(state)
    told.at, told.errors = at, dict(state.groups.errors)
    told.plans = {group: plan for group in state.plans.records if (plan := state.plans.serving(group)) is not None}


def _groups(state: SchedulerState) -> None:
    told, plans = state.told, state.plans
    for group, record in state.groups.records.items():
        before, key = told.groups.get(group), f"{record.deployed_at:.6f}"
        if before == key:
            continue
        plan = plans.serving(group)
        if before is None and not told.complete and plan is not None and plan.group == record:
            told.groups[group] = key  # deployed before all that is known
        else:
            tell(state, "group-deployed", _deployed_text(record, again=bool(before)), group=group, key=key)
    for group in told.groups.keys() - state.groups.records.keys() - plans.records.keys() - plans.adopting:
        key = told.groups[group]
        if key:
            tell(state, "group-undeployed", f"group {group} is undeployed", group=group, key=key)


def _deployed_text(record: GroupRecord, *, again: bool) -> str:
    nodes, streams = len(record.spec.nodes), len(record.spec.streams)
    parts = f"{nodes} node{'s' * (nodes != 1)}, {streams} stream{'s' * (streams != 1)}"
    return f"group {record.spec.name} is deployed{' again' if again else ''}: {parts}"


def _devices(state: SchedulerState, settled: bool) -> None:
    told, devices = state.told, state.devices
    for device in sorted(devices.records.keys() | devices.health.keys() | told.devices.keys()):
        before, life = told.devices.get(device), told.lives.get(device, "")
        about = {"device": device, "key": life}
        if devices.quarantined(device):
            if before is None and not told.complete:
                told.devices[device] = "quarantine"
            elif before != "quarantine":
                reason = devices.health[device].reason
                tell(state, "quarantine", f"device {device} is quarantined: it gets no work", reason, **about)
            continue
        if before == "quarantine":
            tell(state, "resumed", f"device {device} is resumed", "by hams-ctl devices resume", **about)
            before = "resumed"
        gone = devices.gone(device)
        if device in devices.live.peers and device in devices.records and not gone:
            _here(state, device, before, life)
        elif before not in (None, "device-lost") and gone:
            tell(state, "device-lost", f"device {device} is gone", gone, **about)
        elif before not in (None, "device-lost") and settled:
            reason = f"no heartbeat for {LOST_AFTER_S:g} s" if device in devices.records else "it was stopped"
            tell(state, "device-lost", f"device {device} is lost", reason, **about)


def _here(state: SchedulerState, device: str, before: str | None, life: str) -> None:
    """A device that lives: tell it where it was not known, or is another agent's life."""
    now = state.devices.incarnation(device)
    if before is None and not state.told.complete:
        state.told.devices[device], state.told.lives[device] = "device-here", now  # here before all that is known
    elif before is None:
        tell(state, "device-here", f"device {device} is here", device=device, key=now)
    elif before == "device-lost":
        reason = "its agent was started again" if now != life else "its heartbeats arrive again"
        tell(state, "device-back", f"device {device} is back", reason, device=device, key=now)
    elif life and now != life:
        tell(state, "device-back", f"device {device} is back", "its agent was restarted", device=device, key=now)


def _plans(state: SchedulerState) -> None:
    told, records = state.told, state.plans.records
    for group in sorted(told.epochs.keys() | records.keys()):
        record = records.get(group)
        if record is not None and group not in told.epochs and not told.complete:
            told.epochs[group] = record.newest, record.in_force  # planned before all that is known
        elif record is not None:
            _plan(state, record)
        elif told.epochs[group] != (0, 0) and group in state.groups.records:
            reason = why(state, group)
            tell(state, "plan-withdrawn", f"group {group} has no plan any more", reason, group=group)


def _plan(state: SchedulerState, record: PlanRecord) -> None:
    """What changed of one group's plans."""
    told, group, plan = state.told, record.group, record.next or record.active
    newest, active = told.epochs.get(group, (0, 0))
    if plan is not None and plan.epoch > newest:
        _made(state, plan, record.active if record.next is not None else told.plans.get(group))
    elif record.newest < newest:
        stays = f"plan {record.newest} stays" if plan is not None else "there is no other"
        text = f"plan {newest} of {group} is given up, {stays}"
        tell(state, "plan-dropped", text, why(state, group), group=group, epoch=record.newest)
    if record.active is not None and record.in_force != active:
        text = f"plan {record.in_force} of {group} is active"
        tell(state, "plan-active", text, group=group, epoch=record.in_force)


def _made(state: SchedulerState, plan: Plan, before: Plan | None) -> None:
    group, fps = plan.group.spec.name, round(before.fps, 3) if before is not None else 0.0
    places = {device: plan.nodes_on(device) for device in plan.devices}
    earlier = {device: before.nodes_on(device) for device in before.devices} if before is not None else {}
    moved = [d for d in sorted(places.keys() | earlier.keys()) if places.get(d) != earlier.get(d)]
    about = {"group": group, "epoch": plan.epoch, "devices": tuple(moved), "fps_before": fps, "fps": round(plan.fps, 3)}
    tell(state, "plan", plan_text(plan, before), plan.reason, **about)


def why(state: SchedulerState, group: str) -> str:
    """Why the plans of `group` change now: the refusal of an agent, its error, or the newest request for a solution."""
    if group in state.groups.errors:
        return state.groups.errors[group].text
    replanning = state.replanning
    return (replanning.solving[0] if replanning.solving else "") or replanning.reason or replanning.last


def _errors(state: SchedulerState) -> None:
    told = state.told
    for group, error in state.groups.errors.items():
        if told.unplaced.get(group) != error.text:
            tell(state, "unplaced", f"group {group} has no place", error.text, group=group)
    for group in told.unplaced.keys() - state.groups.errors.keys():
        del told.unplaced[group]
