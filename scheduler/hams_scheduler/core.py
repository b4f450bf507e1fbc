"""The scheduler's decisions: what to benchmark, when to solve, which plan to publish, when to switch to it. Pure.

`step(state, event, now) -> commands`: events are what KV, heartbeats and requests say; commands are what the shell
(:mod:`hams_scheduler.service`) shall do. Solving itself is a command too, because it may take a second.

How a plan changes, without a gap: the new plan is published as ``next``; agents load it beside the active one and say
so in their heartbeats; when every device of it is ready it becomes ``active``. Epochs only grow.
"""

from __future__ import annotations

from hams_scheduler import doubtful_cells, idle_profiling, proposals
from hams_scheduler.events import (
    AdoptGroup,
    AnswerPlan,
    AskWithdrawn,
    BrokerBack,
    Command,
    DeletePlan,
    DeviceSeen,
    Event,
    Follow,
    GroupSeen,
    HealthSeen,
    HeartbeatSeen,
    Lead,
    MeasureAsked,
    NotAdopted,
    Note,
    PlanAsked,
    PlanGone,
    PlanRefused,
    PlanSeen,
    Profile,
    ProfileDone,
    ProfileSeen,
    Solve,
    Solved,
    StorePlan,
    StoreProfile,
    Tick,
    VariantSeen,
)
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.agents import AssignmentState, DeviceHealth, DeviceRecord, Heartbeat
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import PlanRecord

SOLVE_S = 0.5
"""Time limit of a strategy that searches, s: a lost device has a new plan within a second."""
RECONNECT_S = 2.0
"""After the broker was away, agents have this much longer to be heard, s: each comes back at its own time."""
DRIFT = 0.15
"""Measured capacity this far from the prediction asks for another look."""


def step(state: SchedulerState, event: Event, now: float) -> list[Command]:
    """Take one event, change `state`, return what to do. `now` is a monotonic time, s."""
    commands: list[Command] = []
    match event:
        case DeviceSeen(device, record):
            commands += _device_seen(state, device, record)
        case HeartbeatSeen(heartbeat):
            commands += _heartbeat(state, heartbeat, now)
        case GroupSeen(group, record):
            commands += _group_seen(state, group, record)
        case PlanSeen(record):
            _plan_seen(state, record)
        case PlanGone(group):
            state.plans.pop(group, None)
            state.want(f"group {group} has no plan", forced=group in state.groups)
        case PlanRefused(record, error):
            commands += proposals.refused(state, record, WireError(**error.to_wire()))
        case NotAdopted(group):
            state.adopting.discard(group)
            if state.plans.pop(group, None) is not None:
                commands.append(DeletePlan(group))
        case HealthSeen(device, health):
            commands += _health_seen(state, device, health)
        case Lead():
            _lead(state)
        case Follow():
            state.leading = False
            state.generation += 1  # who asked about plans waits on: this scheduler may lead again
        case BrokerBack():
            state.live.excuse(now, RECONNECT_S)
        case ProfileSeen(record):
            state.profiles[record.key] = record
        case VariantSeen():
            commands += _variant_seen(state, event)
        case ProfileDone():
            commands += _profile_done(state, event, now)
        case Solved():
            commands += proposals.take(state, event, now)
        case PlanAsked(request_id, request):
            state.asked[request_id] = request
        case AskWithdrawn(request_id):
            state.asked.pop(request_id, None)
        case MeasureAsked(model, device):
            doubtful_cells.ask(state, model, device)
        case Tick():
            for device in state.live.expire(now):
                commands += _lost(state, device, "is silent")
            _drift(state, now)
    return commands + _advance(state, now) if state.leading else []


def _lead(state: SchedulerState) -> None:
    """What the former leader had under way is not ours: begin anew, and look whether every group has a plan."""
    state.leading, state.solving = True, False
    state.generation += 1
    state.profiling.clear()
    state.adopting.clear()
    state.dirty, state.forced = "", False
    for group in state.groups:
        state.want("a scheduler took over", forced=proposals.unplaced(state, group))


def _plan_seen(state: SchedulerState, record: PlanRecord) -> None:
    known = state.plans.get(record.group)
    state.plans[record.group] = record
    state.epoch = max(state.epoch, record.newest)
    if known is not None and known != record:
        state.want(f"the plan of {record.group} was written by another scheduler", forced=True)


def _health_seen(state: SchedulerState, device: str, health: DeviceHealth | None) -> list[Command]:
    before = state.quarantined(device)
    if health is None:
        state.health.pop(device, None)
    else:
        state.health[device] = health
    if state.quarantined(device) == before:
        return []
    if not before:
        return _lost(state, device, f"is quarantined: {health.reason if health else ''}")
    state.want(f"device {device} was resumed")
    return [Note(f"device {device} was resumed")]


# ── devices ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _device_seen(state: SchedulerState, device: str, record: DeviceRecord | None) -> list[Command]:
    if record is None:
        state.devices.pop(device, None)
        return _lost(state, device, "stopped") if state.live.forget(device) else []
    known = state.devices.get(device)
    state.devices[device] = record
    if device not in state.live.peers or (known is not None and known.fingerprint == record.fingerprint):
        return []
    state.want(f"device {device} joined")
    return [Note(f"device {device} is here", device=device)]


def _heartbeat(state: SchedulerState, heartbeat: Heartbeat, now: float) -> list[Command]:
    idle_profiling.note_busy(state, heartbeat)
    news = state.live.heard(heartbeat, now)
    commands: list[Command] = []
    if news is not None:
        state.profiling.pop(heartbeat.device, None)
        state.begins_life(heartbeat.device, heartbeat.incarnation)
        if heartbeat.device in state.devices:  # one that said goodbye may still finish its work
            how = "here" if news == "new" else "back after a restart"
            commands.append(Note(f"device {heartbeat.device} is {how}", device=heartbeat.device))
            state.want(f"device {heartbeat.device} joined")
    active = {group: r.active for group, r in state.plans.items() if r.active is not None}
    state.learned.observe(heartbeat, active, state.fps_of)
    # Epochs grow even over a store that was lost, and over plans that were deleted.
    state.epoch = max(state.epoch, heartbeat.epoch, *(assignment.epoch for assignment in heartbeat.assignments))
    for assignment in heartbeat.assignments:
        commands += _assignment(state, heartbeat, assignment)
    return commands


def _assignment(state: SchedulerState, heartbeat: Heartbeat, assignment: AssignmentState) -> list[Command]:
    """An agent's word on a plan; a refusal takes the device out of that group and asks for another plan."""
    if assignment.state != "refused" or assignment.error is None:
        return []
    record = state.plans.get(assignment.group)
    key = (assignment.group, heartbeat.incarnation)
    plans = (record.active, record.next) if record else ()
    refused = next((p for p in plans if p and p.epoch == assignment.epoch), None)
    if record is None or refused is None or refused.group != state.groups.get(assignment.group) or key in state.refused:
        return []  # an answer to a plan that is already history
    variants = {(heartbeat.incarnation, digest) for digest in refused.variants_on(heartbeat.device)}
    if variants:  # it may well serve the group with the sources
        if variants <= state.banned:
            return []
        state.banned |= variants
    else:
        state.refused[key] = assignment.error
    state.want(f"{heartbeat.device} refused: {assignment.error.text}", forced=True)
    text = f"{heartbeat.device} refused group {assignment.group}: {assignment.error.text}"
    commands: list[Command] = [Note(text, heartbeat.device, assignment.group, assignment.epoch)]
    if refused is record.next:
        state.plans[assignment.group] = PlanRecord(group=assignment.group, active=record.active)
        commands.append(StorePlan(state.plans[assignment.group]))
    return commands


def _lost(state: SchedulerState, device: str, how: str) -> list[Command]:
    state.profiling.pop(device, None)
    serves = any(device in plan.devices for r in state.plans.values() for plan in (r.active, r.next) if plan)
    state.want(f"device {device} {how}", forced=serves)
    return [Note(f"device {device} {how}", device=device)]


# ── groups and profiles ───────────────────────────────────────────────────────────────────────────────────────────


def _group_seen(state: SchedulerState, group: str, record: GroupRecord | None) -> list[Command]:
    state.errors.pop(group, None)
    for key in [k for k in state.refused if k[0] == group]:
        del state.refused[key]
    if record is None:
        state.groups.pop(group, None)
        known = state.plans.pop(group, None)
        state.want(f"group {group} undeployed")
        return [DeletePlan(group)] if known is not None else []
    state.groups[group] = record
    state.adopting.discard(group)
    known = state.plans.get(group)
    newest = (known.next or known.active) if known else None
    state.want(f"group {group} deployed", forced=newest is None or newest.group != record)
    return []


def _variant_seen(state: SchedulerState, event: VariantSeen) -> list[Command]:
    state.variant_seen(event.source, event.variant, event.record)
    used = [(g, n) for g, record in state.groups.items() for n, m in record.models.items() if m.digest == event.source]
    if not used:
        return []
    why = f"{event.record.label} of {'/'.join(used[0])} appeared" if event.record else "a variant is gone"
    state.want(why, forced=any(state.inadmissible(*one, event.variant) for one in used))
    return [Note(why)]


def _profile_done(state: SchedulerState, event: ProfileDone, now: float) -> list[Command]:
    running = state.profiling.get(event.device)
    if running is None or running[0] != event.cell:
        return []
    del state.profiling[event.device]
    if event.record is not None:
        known = state.profiles.get(event.record.key)
        if not doubtful_cells.replaces(state, event.device, event.record, now):
            return []
        state.profiles[event.record.key] = event.record
        if known is not None and abs(event.record.fps / known.fps - 1.0 if known.fps else 1.0) > DRIFT:
            state.want(f"{event.cell.model} was measured again on {event.device}")
        last = known is None and not state.missing(list(state.groups.values()))
        _new_number(state, event, last or state.stands_for_some(event.cell.digest))
        return [StoreProfile(event.record)]
    state.again.discard((event.device, event.cell.key))
    text = event.error.text if event.error else "no answer"
    state.unanswered.setdefault((running[1], event.cell), []).append(f"benchmark failed: {text}")
    _new_number(state, event, False)
    return [Note(f"benchmark of {event.cell.model} on {event.device} failed: {text}", device=event.device)]


def _new_number(state: SchedulerState, event: ProfileDone, wanted: bool) -> None:
    """Look again if a group is not placed, perhaps for want of this very benchmark, or if it is `wanted` otherwise."""
    unplaced = bool(state.errors) or any(proposals.unplaced(state, group) for group in state.groups)
    if unplaced or _bereft(state) or wanted:
        why = state.dirty or f"{event.cell.model} was measured on {event.device}"  # a wish that waited keeps its reason
        state.want(why, forced=unplaced or _bereft(state))


# ── what follows from the state ───────────────────────────────────────────────────────────────────────────────────


def _advance(state: SchedulerState, now: float) -> list[Command]:
    commands = proposals.activate(state)
    groups = [state.groups[name] for name in sorted(state.groups)]
    drafts = [group for request in state.asked.values() for group in request.groups]
    wanted = state.missing(groups + drafts) + state.missing(drafts, spare=True) + doubtful_cells.asked(state, groups)
    again = doubtful_cells.due(state, groups, now)
    started = _start_profiles(state, wanted + idle_profiling.due(state, groups, now) + again)
    commands += started
    commands += [
        Note(f"{one.cell.model} is measured again on {one.device}", one.device) for one in again if one in started
    ]
    if not state.settled(now):
        return commands
    commands += _orphans(state)
    if not state.alive():
        return commands
    for request_id, request in list(state.asked.items()):
        if not state.missing(request.groups) and not state.missing(request.groups, spare=True):
            del state.asked[request_id]
            situation = state.situation(request.groups, request.strategies[0], request.time_limit_s)
            commands.append(AnswerPlan(request_id, request, situation))
    due = state.forced or now >= state.not_before
    placed = _to_place(state, groups) if state.dirty and due and not state.solving else []
    if placed:
        state.solving = True
        state.generation += 1
        state.granted, state.dirty, state.forced = (state.dirty, state.forced), "", False
        commands.append(Solve(state.generation, state.situation(placed, _strategy(placed), SOLVE_S)))
    elif not groups:
        state.dirty, state.forced = "", False
    return commands


def _to_place(state: SchedulerState, groups: list[GroupRecord]) -> list[GroupRecord]:
    """The groups to place now: all when all is measured; none as long as benchmarks are worth waiting for.

    A group that was served and lost a device waits for no benchmark but those without which it cannot be placed. Nor do
    the others then, except those of which the same is true: their turn comes with the benchmark.
    """
    if not state.missing(groups):
        return groups
    ready = [group for group in groups if not state.awaits(group)]
    return ready if any(_lost_device(state, group.spec.name) for group in ready) else []


def _orphans(state: SchedulerState) -> list[Command]:
    """Plans without a group: the store was lost, or the group was undeployed while no scheduler ran."""
    commands: list[Command] = []
    for group in sorted(state.plans.keys() - state.groups.keys() - state.adopting):
        plan = state.serving(group)
        if plan is None:  # refused by all: there is nothing to write the group back from
            del state.plans[group]
            commands.append(DeletePlan(group))
        else:
            state.adopting.add(group)
            commands.append(AdoptGroup(plan.group))
    return commands


def _strategy(groups: list[GroupRecord]) -> str:
    """All groups are placed together: the most important one says how, the first by name among equals."""
    return max(groups, key=lambda group: group.spec.priority).spec.strategy


def _bereft(state: SchedulerState) -> bool:
    """Whether a served group has lost a device."""
    return any(_lost_device(state, group) for group in state.plans)


def _lost_device(state: SchedulerState, group: str) -> bool:
    record = state.plans.get(group)
    return bool(record and record.active and not record.active.devices <= set(state.alive()))


def _start_profiles(state: SchedulerState, missing: list[Profile]) -> list[Command]:
    """One benchmark at a time per device, and none at once on devices of one host that share cores."""
    commands: list[Command] = []
    for wanted in missing:
        device, cell = wanted.device, wanted.cell
        record = state.devices[device]
        busy = [state.devices[d] for d in state.profiling if d in state.devices]
        measured_now = any(cell.key == other.key for other, _ in state.profiling.values())
        if device in state.profiling or measured_now or any(_share_cores(record, other) for other in busy):
            continue
        state.profiling[device] = (cell, state.incarnation(device))
        commands.append(wanted)
    return commands


def _share_cores(a: DeviceRecord, b: DeviceRecord) -> bool:
    """Whether two devices compute on the same CPU cores; an unpinned CPU device uses all of them."""
    if a.host != b.host or "cpu" not in (a.kind, b.kind):
        return False
    return not a.cores or not b.cores or bool(set(a.cores) & set(b.cores))


def _drift(state: SchedulerState, now: float) -> None:
    """Ask for another look when what devices can do is no longer what the plans say."""
    if now - max(state.changed_at, state.looked_at) < proposals.MIN_DWELL_S:
        return
    for group, record in state.plans.items():
        capacity = state.learned.capacity_fps(group)
        if record.active is None or record.next is not None or capacity <= 0:
            continue
        if abs(capacity / record.active.fps - 1.0) > DRIFT:
            state.looked_at = now
            state.want(f"group {group}: {capacity:.1f} FPS measured, {record.active.fps:.1f} predicted")
