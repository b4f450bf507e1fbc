"""The scheduler's decisions: what to benchmark, when to solve, which plan to publish, when to switch to it. Pure.

`step(state, event, now) -> commands`: events are what KV, heartbeats and requests say; commands are what the shell
(:mod:`hams_scheduler.service`) shall do. Solving itself is a command too, because it may take a second.

How a plan changes, without a gap: the new plan is published as ``next``; agents load it beside the active one and say
so in their heartbeats; when every device of it is ready it becomes ``active``. Epochs only grow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hams_scheduler.events import (
    AnswerPlan,
    AskWithdrawn,
    Command,
    DeletePlan,
    DeviceSeen,
    Event,
    GroupSeen,
    HeartbeatSeen,
    Note,
    PlanAsked,
    PlanSeen,
    Profile,
    ProfileDone,
    ProfileSeen,
    Solve,
    Solved,
    StorePlan,
    StoreProfile,
    Tick,
)
from hams_scheduler.planning import Cell, Problem, Solution, cell_of
from hams_shared.liveness import Liveness
from hams_shared.messages import (
    AssignmentState,
    DeviceRecord,
    GroupRecord,
    Heartbeat,
    ModelRef,
    Plan,
    PlanRecord,
    PlanRequest,
    ProfileRecord,
    WireError,
)
from hams_shared.subjects import LOST_AFTER_S

PROFILE_ATTEMPTS = 3
"""Tries at one benchmark that end without an answer, before the pair counts as unsupported until the agent restarts."""

WORTH_MOVING = 1.10
"""A change that nothing forces must promise at least this times the predicted FPS."""


@dataclass
class SchedulerState:
    """All the scheduler knows. It can be rebuilt from KV and heartbeats at any time."""

    started: float
    live: Liveness = field(default_factory=Liveness)
    devices: dict[str, DeviceRecord] = field(default_factory=dict)
    profiles: dict[str, ProfileRecord] = field(default_factory=dict)
    """By profile key."""
    groups: dict[str, GroupRecord] = field(default_factory=dict)
    plans: dict[str, PlanRecord] = field(default_factory=dict)
    asked: dict[str, PlanRequest] = field(default_factory=dict)
    profiling: dict[str, tuple[Cell, str]] = field(default_factory=dict)
    """By device: the benchmark under way and the incarnation that runs it."""
    unanswered: dict[tuple[str, Cell], list[str]] = field(default_factory=dict)
    """Benchmarks that ended without an answer, by (incarnation, cell): why."""
    refused: dict[tuple[str, str], WireError] = field(default_factory=dict)
    """By (group, incarnation): why an agent refused a plan; it gets none of that group's nodes again in this life."""
    errors: dict[str, WireError] = field(default_factory=dict)
    """By group: why it has no plan."""
    epoch: int = 0
    generation: int = 0
    solving: bool = False
    dirty: str = ""
    """Why a new solution is wanted; empty: it is not."""
    forced: bool = False
    """Whether the wish must be granted whatever it costs."""

    def alive(self) -> list[str]:
        """Devices that can be given work, in a fixed order."""
        return sorted(d for d in self.live.peers if d in self.devices)

    def incarnation(self, device: str) -> str:
        """Which life of the agent this is."""
        return self.live.peers[device].heartbeat.incarnation

    def settled(self, now: float) -> bool:
        """Whether every living agent has had time to be heard since this scheduler started."""
        return now - self.started >= LOST_AFTER_S

    def reason(self, device: str, cell: Cell) -> str | None:
        """Why `cell` has no number although it was tried, or None."""
        tries = self.unanswered.get((self.incarnation(device), cell), [])
        return tries[-1] if len(tries) >= PROFILE_ATTEMPTS else None

    def missing(self, records: list[GroupRecord]) -> list[tuple[str, ModelRef, Cell]]:
        """Cells of the matrix that `records` need and nobody has measured: (device, model, cell)."""
        wanted: dict[tuple[str, str], tuple[str, ModelRef, Cell]] = {}
        for record in records:
            for node in record.spec.depth_first():
                for device in self.alive():
                    cell = cell_of(record, node, self.devices[device])
                    if cell.key not in self.profiles and self.reason(device, cell) is None:
                        wanted.setdefault((device, cell.key), (device, record.models[node], cell))
        return list(wanted.values())

    def problem(self, records: list[GroupRecord], strategy: str, time_limit_s: float = 1.0) -> Problem:
        """All that a solver needs, frozen."""
        alive = self.alive()
        unanswered = {
            (device, cell.key): tries[-1]
            for device in alive
            for (life, cell), tries in self.unanswered.items()
            if life == self.incarnation(device)
        }
        refused = {
            (group, device): error.text
            for device in alive
            for (group, life), error in self.refused.items()
            if life == self.incarnation(device)
        }
        return Problem(
            groups=tuple(records),
            devices=tuple(self.devices[d] for d in alive),
            profiles=dict(self.profiles),
            unanswered=unanswered,
            refused=refused,
            strategy=strategy,
            time_limit_s=time_limit_s,
        )


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
            state.plans[record.group] = record
            state.epoch = max(state.epoch, record.newest)
        case ProfileSeen(record):
            state.profiles[record.key] = record
        case ProfileDone():
            commands += _profile_done(state, event)
        case Solved():
            commands += _solved(state, event)
        case PlanAsked(request_id, request):
            state.asked[request_id] = request
        case AskWithdrawn(request_id):
            state.asked.pop(request_id, None)
        case Tick():
            for device in state.live.expire(now):
                commands += _lost(state, device, "is silent")
    return commands + _advance(state, now)


# ── devices ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _device_seen(state: SchedulerState, device: str, record: DeviceRecord | None) -> list[Command]:
    if record is None:
        state.devices.pop(device, None)
        return _lost(state, device, "stopped") if state.live.forget(device) else []
    known = state.devices.get(device)
    state.devices[device] = record
    if device in state.live.peers and (known is None or known.fingerprint != record.fingerprint):
        _want(state, f"device {device} joined")
    return []


def _heartbeat(state: SchedulerState, heartbeat: Heartbeat, now: float) -> list[Command]:
    news = state.live.heard(heartbeat, now)
    commands: list[Command] = []
    if news is not None:
        state.profiling.pop(heartbeat.device, None)
        commands.append(Note(f"device {heartbeat.device} is {'here' if news == 'new' else 'back after a restart'}"))
        if heartbeat.device in state.devices:
            _want(state, f"device {heartbeat.device} joined")
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
    state.refused[key] = assignment.error
    _want(state, f"{heartbeat.device} refused: {assignment.error.text}", forced=True)
    commands: list[Command] = [Note(f"{heartbeat.device} refused group {assignment.group}: {assignment.error.text}")]
    if refused is record.next:
        state.plans[assignment.group] = PlanRecord(group=assignment.group, active=record.active)
        commands.append(StorePlan(state.plans[assignment.group]))
    return commands


def _lost(state: SchedulerState, device: str, how: str) -> list[Command]:
    state.profiling.pop(device, None)
    serves = any(device in plan.devices for r in state.plans.values() for plan in (r.active, r.next) if plan)
    _want(state, f"device {device} {how}", forced=serves)
    return [Note(f"device {device} {how}")]


# ── groups and profiles ───────────────────────────────────────────────────────────────────────────────────────────


def _group_seen(state: SchedulerState, group: str, record: GroupRecord | None) -> list[Command]:
    state.errors.pop(group, None)
    for key in [k for k in state.refused if k[0] == group]:
        del state.refused[key]
    if record is None:
        state.groups.pop(group, None)
        known = state.plans.pop(group, None)
        _want(state, f"group {group} undeployed")
        return [DeletePlan(group)] if known is not None else []
    state.groups[group] = record
    known = state.plans.get(group)
    newest = (known.next or known.active) if known else None
    _want(state, f"group {group} deployed", forced=newest is None or newest.group != record)
    return []


def _profile_done(state: SchedulerState, event: ProfileDone) -> list[Command]:
    running = state.profiling.get(event.device)
    if running is None or running[0] != event.cell:
        return []
    del state.profiling[event.device]
    if event.record is not None:
        state.profiles[event.record.key] = event.record
        return [StoreProfile(event.record)]
    text = event.error.text if event.error else "no answer"
    state.unanswered.setdefault((running[1], event.cell), []).append(f"benchmark failed: {text}")
    return [Note(f"benchmark of {event.cell.model} on {event.device} failed: {text}")]


def _want(state: SchedulerState, why: str, *, forced: bool = False) -> None:
    state.dirty = why if forced or not state.forced else state.dirty
    state.forced = state.forced or forced


# ── what follows from the state ───────────────────────────────────────────────────────────────────────────────────


def _advance(state: SchedulerState, now: float) -> list[Command]:
    commands = _activate(state)
    groups = [state.groups[name] for name in sorted(state.groups)]
    drafts = [request.group for request in state.asked.values()]
    missing = state.missing(groups + drafts)
    commands += _start_profiles(state, missing)
    if not state.settled(now):
        return commands
    for group in [g for g in state.plans if g not in state.groups]:  # undeployed while no scheduler ran
        del state.plans[group]
        commands.append(DeletePlan(group))
    if not state.alive():
        return commands
    for request_id, request in list(state.asked.items()):
        if not state.missing([request.group]):
            del state.asked[request_id]
            problem = state.problem([request.group], request.strategies[0], request.time_limit_s)
            commands.append(AnswerPlan(request_id, request, problem))
    if state.dirty and groups and not state.solving and (not state.missing(groups) or _bereft(state)):
        state.solving = True
        state.generation += 1
        commands.append(Solve(state.generation, state.problem(groups, groups[0].spec.strategy)))
    elif not groups:
        state.dirty, state.forced = "", False
    return commands


def _bereft(state: SchedulerState) -> bool:
    """Whether a served group has lost a device: then nobody waits for benchmarks of others."""
    return any(r.active and not r.active.devices <= state.live.peers.keys() for r in state.plans.values())


def _start_profiles(state: SchedulerState, missing: list[tuple[str, ModelRef, Cell]]) -> list[Command]:
    """One benchmark at a time per device, and none at once on devices of one host that share cores."""
    commands: list[Command] = []
    for device, model, cell in missing:
        record = state.devices[device]
        busy = [state.devices[d] for d in state.profiling if d in state.devices]
        measured_now = any(cell.key == other.key for other, _ in state.profiling.values())
        if device in state.profiling or measured_now or any(_share_cores(record, other) for other in busy):
            continue
        state.profiling[device] = (cell, state.incarnation(device))
        commands.append(Profile(device, model, cell))
    return commands


def _share_cores(a: DeviceRecord, b: DeviceRecord) -> bool:
    """Whether two devices compute on the same CPU cores; an unpinned CPU device uses all of them."""
    if a.host != b.host or "cpu" not in (a.kind, b.kind):
        return False
    return not a.cores or not b.cores or bool(set(a.cores) & set(b.cores))


def _solved(state: SchedulerState, event: Solved) -> list[Command]:
    if event.generation != state.generation:
        return []
    state.solving = False
    why, forced = state.dirty, state.forced
    state.dirty, state.forced = "", False
    if event.solution is None:
        error = WireError(**event.error.to_wire()) if event.error else WireError(code="internal", text="no solution")
        for group in state.groups:
            state.errors[group] = error
        return [Note(f"no plan: {error.text}")]
    commands: list[Command] = []
    if not forced and not _worth(state, event.solution):
        return []
    for group, answer in event.solution.groups.items():
        record = state.groups.get(group)
        if record is None or answer.record != record:
            _want(state, why, forced=True)  # it changed while we solved
            continue
        state.errors.pop(group, None)
        commands += _propose(state, record, answer.plan, why)
    return commands


def _worth(state: SchedulerState, solution: Solution) -> bool:
    """Whether a change that nothing forces pays: a group without plan gets one, or all gain enough."""
    gains = []
    for group, answer in solution.groups.items():
        record = state.plans.get(group)
        current = (record.next or record.active) if record else None
        if current is None or not current.devices <= state.live.peers.keys():
            return True
        gains.append(answer.plan.fps / current.fps if current.fps > 0 else float("inf"))
    return bool(gains) and min(gains) >= WORTH_MOVING


def _propose(state: SchedulerState, record: GroupRecord, answer: Plan, why: str) -> list[Command]:
    """Publish `answer` as the group's next plan, unless that is what it has."""
    group = record.spec.name
    known = state.plans.get(group) or PlanRecord(group=group)
    newest = known.next or known.active
    if newest is not None and newest.shares == answer.shares and newest.group == record:
        return []
    back = known.active
    if known.next is not None and back is not None and back.shares == answer.shares and back.group == record:
        state.plans[group] = PlanRecord(group=group, active=back)  # the change is off
        return [StorePlan(state.plans[group]), Note(f"group {group}: plan {back.epoch} stays")]
    state.epoch += 1
    plan = answer.model_copy(update={"epoch": state.epoch, "reason": why})
    state.plans[group] = PlanRecord(group=group, active=known.active, next=plan)
    return [StorePlan(state.plans[group]), Note(f"group {group}: plan {plan.epoch} proposed: {why}")]


def _activate(state: SchedulerState) -> list[Command]:
    """Switch to each next plan whose devices are all ready."""
    commands: list[Command] = []
    for group, record in list(state.plans.items()):
        plan = record.next
        if plan is not None and all(state.live.ready(d, group, plan.epoch) for d in plan.devices):
            state.plans[group] = PlanRecord(group=group, active=plan)
            commands += [StorePlan(state.plans[group]), Note(f"group {group}: plan {plan.epoch} is active")]
    return commands
