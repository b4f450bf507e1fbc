"""The scheduler's decisions: what to benchmark, when to solve, which plan to publish, when to switch to it. Pure.

`step(state, event, now) -> commands`: events are what KV, heartbeats and requests report; commands are what the shell
(:mod:`hams_scheduler.service`) carries out. Solving is a command too, because it may take a second.

A plan changes without a gap: the new plan is published as ``next``; agents load it beside the active one and report so
in their heartbeats; when every device of it is ready it becomes ``active``. Epochs only grow.

A heartbeat that brings no news concerns only the plans that its device loads; all else follows from other events and
from ticks, four a second.
"""

from __future__ import annotations

from hams_scheduler import (
    failing_networks,
    forgetting,
    group_changes,
    history,
    plan_switching,
    profiling,
    refusals,
    replanning,
)
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
    HistoryRead,
    HistoryTold,
    Lead,
    MeasureAsked,
    NotAdopted,
    Note,
    PipelineSeen,
    PlanAsked,
    PlanEntrySeen,
    PlanRefused,
    PlanSeen,
    Prepared,
    ProfileDone,
    ProfileSeen,
    Solved,
    StorePlan,
    StoreProfile,
    Tick,
    VariantSeen,
    VideoMeasured,
)
from hams_scheduler.standing_still import some_stand_still
from hams_scheduler.state import SchedulerState
from hams_scheduler.unanswered import PROFILE_ATTEMPTS
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.subjects import LOST_AFTER_S

MEASURED_ALIKE = 1.02
"""Measurements of a network that differ by this factor at most are the same number."""
RECONNECT_S = 2.0
"""After the broker was away, agents have this much longer to be heard, s: each comes back at its own time."""


def step(state: SchedulerState, event: Event, now: float) -> list[Command]:
    """Take one event, change `state`, return what to do. `now` is a monotonic time, s."""
    commands = _take(state, event, now)
    news = history.news(state, now)
    return [*news, *commands] if state.leading else []


def _take(state: SchedulerState, event: Event, now: float) -> list[Command]:
    match event:
        case HeartbeatSeen(heartbeat):
            commands, news = _heartbeat(state, heartbeat, now)
            if not news:
                return commands
        case Tick():
            _tick(state, now)
            commands = []
        case PipelineSeen(load):
            state.piped(load, now)
            commands = []
        case ProfileDone():
            commands = _profile_done(state, event, now)
        case Solved():
            commands = plan_switching.take(state, event, now)
        case Prepared():
            commands = replanning.prepared(state, event, now)
        case HistoryRead(entries, complete):
            state.told.read(entries, complete=complete)
            commands = []
        case HistoryTold(entry):
            if not state.leading:  # it knows its own
                state.told.take(entry)
            commands = []
        case BrokerBack():
            state.devices.live.grant_grace(now, RECONNECT_S)
            state.profiles.running.clear()  # answers may be lost: they are requested again
            commands = []
        case _:
            commands = _seen(state, event)
    return commands + _advance(state, now) if state.leading else commands


def _seen(state: SchedulerState, event: Event) -> list[Command]:
    """Take what KV, leadership and people report."""
    match event:
        case DeviceSeen(device, record):
            return _device_seen(state, device, record)
        case HealthSeen(device, health):
            _health_seen(state, device, health)
        case GroupSeen(group, record):
            return _group_seen(state, group, record)
        case VariantSeen():
            _variant_seen(state, event)
        case ProfileSeen(record):
            known = state.profiles.records.get(record.key)
            state.profiles.seen(record)
            _measured_again(state, known, record)
        case VideoMeasured(key, cost):
            state.videos.measured(key, cost)
        case PlanSeen(record):
            _plan_seen(state, record)
        case PlanEntrySeen():
            return _plan_entry(state, event)
        case PlanRefused(record, error):
            return plan_switching.refused(state, record, WireError(**error.to_wire()))
        case NotAdopted(group):
            state.plans.adopting.discard(group)
            return [DeletePlan(group)] if state.plans.remove(group) is not None else []
        case Lead():
            return _lead(state, event)
        case Follow():
            state.replanning.generation += 1  # questions about plans wait: this scheduler may lead again
            state.kept.clear()
            state.told.ready = False  # what it told and did not write is dropped
        case PlanAsked(request_id, request):
            state.questions[request_id] = request
        case AskWithdrawn(request_id):
            state.questions.pop(request_id, None)
        case MeasureAsked(model, device):
            profiling.request(state, model, device)
    return []


# ── leading, and plans that others write ──────────────────────────────────────────────────────────────────────────


def _lead(state: SchedulerState, event: Lead) -> list[Command]:
    """Take the plans in KV, drop what an earlier leader had under way, and look whether every group has a plan."""
    older = {r.group for r in event.plans if r.group in event.back and not state.is_newer(r)}
    for record in event.plans:
        if record.group not in older:
            _plan_seen(state, record)
    absent = state.plans.records.keys() - {record.group for record in event.plans}
    for group in absent - event.written:  # decided in an earlier term and never written
        state.plans.remove(group)
    state.replanning.solving = None
    state.replanning.generation += 1
    state.replanning.withdraw()
    state.kept.clear()
    state.profiles.running.clear()
    state.plans.adopting.clear()
    for group in state.groups.records:
        state.request_replan("a scheduler took over", mandatory=state.unplaced(group))
    lost = sorted(absent & event.written | older)  # lost with the store
    where = f" on {event.host}" if event.host else ""
    history.tell(state, "leader", f"scheduler {state.lease.me}{where} leads (term {state.lease.led})")
    return [StorePlan(state.plans.records[group]) for group in lost]


def _plan_seen(state: SchedulerState, record: PlanRecord) -> None:
    """Take a plan that another scheduler wrote."""
    state.lease.heard(record.term)
    record = record.model_copy(update={"term": 0})
    known = state.plans.records.get(record.group)
    state.plans.put(record)
    if known is not None and known != record:
        state.request_replan(f"the plan of {record.group} was written by another scheduler", mandatory=True)


def _plan_entry(state: SchedulerState, event: PlanEntrySeen) -> list[Command]:
    """Take an entry of KV: a leader knows what it wrote, writes what was lost, and takes what is newer."""
    known = state.plans.records.get(event.group)
    if event.record is not None:
        term = state.lease.term
        state.lease.heard(event.record.term)
        newer = state.is_newer(event.record)
        mine = event.record.term == term or (event.record.term < term and not newer)
        if event.back and mine and known is not None:  # a follower keeps it, too: it may lead next
            return [StorePlan(known)] if event.record.model_copy(update={"term": 0}) != known else []
        if not state.leading or (newer and event.record.term != state.lease.led):
            _plan_seen(state, event.record)
    elif state.leading:
        return [StorePlan(known)] if known is not None else []
    elif not (event.lost or event.back):
        state.plans.remove(event.group)
        state.request_replan(f"group {event.group} has no plan", mandatory=event.group in state.groups.records)
    return []


# ── devices ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _device_seen(state: SchedulerState, device: str, record: DeviceRecord | None) -> list[Command]:
    known = state.devices.records.get(device)
    state.devices.set_record(device, record)
    if record is None:
        if state.devices.leave(device):
            _lost(state, device, "stopped")
        return []
    if device not in state.devices.live.peers or (known is not None and known.fingerprint == record.fingerprint):
        return []
    state.request_replan(f"device {device} joined")
    return []


def _health_seen(state: SchedulerState, device: str, health: DeviceHealth | None) -> None:
    devices = state.devices
    before, sound = devices.health.get(device), devices.sound(device)
    devices.set_health(device, health)
    failing_networks.changed(state, device, before, health)
    if sound and health is not None and not devices.sound(device):
        _lost(state, device, f"is gone: {health.gone}" if health.gone else f"is quarantined: {health.reason}")
    elif not sound and devices.sound(device):
        state.request_replan(f"device {device} {'is back' if before and before.gone else 'was resumed'}")


def _heartbeat(state: SchedulerState, heartbeat: Heartbeat, now: float) -> tuple[list[Command], bool]:
    """Take a heartbeat; return commands, and whether it brings more than what its own plans are waiting for."""
    device = heartbeat.device
    news = state.devices.heard(heartbeat, now)
    if news is not None:
        state.profiles.running.pop(device, None)
        state.forget_earlier_incarnations()
        if device in state.devices.records:  # one that said goodbye may still finish its work
            state.request_replan(f"device {device} joined")
    _learn(state, heartbeat)
    # Epochs grow even over a store that was lost, and over plans that were deleted.
    epochs = (assignment.epoch for assignment in heartbeat.assignments)
    state.plans.epoch = max(state.plans.epoch, heartbeat.epoch, *epochs)
    refused = [one for one in heartbeat.assignments if one.state == "refused"]
    answers = [command for one in refused for command in refusals.take(state, heartbeat, one)]
    if news is None and not answers and state.leading:
        pending = state.plans.pending
        return plan_switching.activate(state, {one.group for one in heartbeat.assignments} if pending else ()), False
    return answers, True


def _learn(state: SchedulerState, heartbeat: Heartbeat) -> None:
    """Observe what the device did."""
    device, plans = heartbeat.device, state.plans.active_on(heartbeat.device)
    disturbed = device in state.profiles.running or any(a.state == "loading" for a in heartbeat.assignments)
    if state.learned.rested(heartbeat, plans, disturbed=disturbed):
        return
    record = state.devices.records.get(device)
    crowded = record is not None and record.host_cores > 0 and state.crowded(record.host)
    observed = state.learned.observe
    observed(heartbeat, plans, state.fps_of, state.cpu_of, crowded=crowded, disturbed=disturbed)


def _lost(state: SchedulerState, device: str, how: str) -> None:
    state.profiles.running.pop(device, None)
    state.kept.lost(device)
    state.request_replan(f"device {device} {how}", mandatory=device in state.plans.by_device)


# ── groups and profiles ───────────────────────────────────────────────────────────────────────────────────────────


def _group_seen(state: SchedulerState, group: str, record: GroupRecord | None) -> list[Command]:
    if record is not None and record == state.groups.records.get(group):
        return []  # a renewed watch repeats
    state.profiles.needed.pop(group, None)
    if record is None:
        state.groups.set_record(group, None)
        forgetting.undeployed(state.learned, group)
        state.request_replan(f"group {group} undeployed")
        return [DeletePlan(group)] if state.plans.remove(group) is not None else []
    return group_changes.take(state, group, record)


def _variant_seen(state: SchedulerState, event: VariantSeen) -> None:
    if event.record == state.groups.variants.get(event.source, {}).get(event.variant):
        return  # a renewed watch repeats
    state.groups.set_variant(event.source, event.variant, event.record)
    groups = state.groups.records.items()
    used = [(g, n) for g, record in groups for n, m in record.models.items() if m.digest == event.source]
    if not used:
        return
    why = f"{event.record.label} of {'/'.join(used[0])} appeared" if event.record else "a variant is gone"
    state.request_replan(why, mandatory=any(state.not_admitted(*one, event.variant) for one in used))
    history.tell(state, "variant", why, group=used[0][0])


def _profile_done(state: SchedulerState, event: ProfileDone, now: float) -> list[Command]:
    running = state.profiles.running.get(event.device)
    if running is None or running[0] != event.cell:
        return []
    del state.profiles.running[event.device]
    record = event.record
    if record is None:
        state.profiles.requested.discard((event.device, event.cell.key))
        text = event.error.text if event.error else "no answer"
        attempts = state.profiles.failed(running[1], event.cell, f"benchmark failed: {text}", now)
        _new_number(state, event, False)
        what = f"the benchmark of {event.cell.model} on {event.device} failed"
        if attempts == PROFILE_ATTEMPTS:
            history.tell(state, "benchmark-failed", what, text, device=event.device)
            return []
        return [Note(f"{what}: {text}", device=event.device)]
    known = state.profiles.records.get(record.key)
    if not profiling.replaces(state, event.device, record, now):
        return []
    state.profiles.add(record)
    _measured_again(state, known, record)
    if known is not None and abs(record.fps / known.fps - 1.0 if known.fps else 1.0) > plan_switching.DRIFT:
        state.request_replan(f"{event.cell.model} was measured again on {event.device}")
    last = known is None and not profiling.missing(state, state.groups.sorted())
    _new_number(state, event, last or state.groups.has_variant(event.cell.digest))
    return [StoreProfile(record)]


def _measured_again(state: SchedulerState, known: ProfileRecord | None, record: ProfileRecord) -> None:
    """Forget what serving showed beyond a number, once a new measurement shows it itself."""
    if known is None or record.fps <= known.fps * MEASURED_ALIKE:
        return
    for one in state.devices.records.values():
        if one.fingerprint == record.fingerprint:
            forgetting.measured_faster(state.learned, one.device)


def _new_number(state: SchedulerState, event: ProfileDone, wanted: bool) -> None:
    """Request a new solution if a group is not placed, perhaps for want of this benchmark, or if one is `wanted`."""
    unplaced = bool(state.groups.errors) or any(state.unplaced(group) for group in state.groups.records)
    mandatory = unplaced or some_stand_still(state)
    if mandatory or wanted:  # a request that waited keeps its reason
        why = state.replanning.reason or f"{event.cell.model} was measured on {event.device}"
        state.request_replan(why, mandatory=mandatory)


# ── what follows from the state ───────────────────────────────────────────────────────────────────────────────────


def _tick(state: SchedulerState, now: float) -> None:
    for device in state.devices.expire(now):
        _lost(state, device, f"sent no heartbeat for {LOST_AFTER_S:g} s")
    state.learned.expire(now)
    state.profiles.attempt_again(now)
    plan_switching.request_on_drift(state, now)


def _advance(state: SchedulerState, now: float) -> list[Command]:
    commands = plan_switching.activate(state, state.plans.pending)
    groups = state.groups.sorted()
    commands += [*profiling.start_due(state, groups, now), *state.videos.start_due([*groups, *state.drafts()])]
    if not state.settled(now):
        return commands
    commands += _orphans(state)
    if state.devices.alive():
        commands += _answers(state)
        commands += replanning.solve_due(state, groups, now) + replanning.prepare_due(state, groups, now)
    return commands


def _answers(state: SchedulerState) -> list[Command]:
    """Answer the questions about plans for which all is measured."""
    commands: list[Command] = []
    for request_id, request in list(state.questions.items()):
        groups = list(request.groups)
        if not profiling.unmeasured(state, groups) and not profiling.missing(state, groups, idle=True):
            del state.questions[request_id]
            snapshot = state.snapshot(groups, request.strategies[0], request.time_limit_s)
            commands.append(AnswerPlan(request_id, request, snapshot))
    return commands


def _orphans(state: SchedulerState) -> list[Command]:
    """Plans without a group: the store was lost, or the group was undeployed while no scheduler ran."""
    commands: list[Command] = []
    for group in sorted(state.plans.records.keys() - state.groups.records.keys() - state.plans.adopting):
        plan = state.plans.serving(group)
        if plan is None:  # all devices refused it: there is nothing to restore the group from
            state.plans.remove(group)
            commands.append(DeletePlan(group))
        else:
            state.plans.adopting.add(group)
            commands.append(AdoptGroup(plan.group))
    return commands
