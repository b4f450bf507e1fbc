"""From a solution to plans: whether it is worth the move, what is proposed, withdrawn, activated, given up. Pure.

A plan is published as ``next``; when every device of it has loaded it, it becomes ``active``. Epochs only grow.
"""

from __future__ import annotations

from hams_scheduler.events import Command, DeletePlan, Note, Solved, StorePlan
from hams_scheduler.planning import Solution
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, PlanRecord

WORTH_MOVING = 1.10
"""A change that nothing forces must promise at least this times the FPS."""
DWELL_S = 60.0
"""How long a placement is expected to last, s: its gain over that time must exceed the time spent loading."""
MIN_DWELL_S = 15.0
"""A placement is left alone for this long after a change that nothing forces is made, s."""


def take(state: SchedulerState, event: Solved, now: float) -> list[Command]:
    """A solution is there: propose what is worth it, and note what has none."""
    if event.generation != state.generation:
        return []
    state.solving = False
    why, forced = state.granted
    if event.solution is None:
        error = WireError(**event.error.to_wire()) if event.error else WireError(code="internal", text="no solution")
        for group in state.groups:
            state.errors[group] = error
        return [Note(f"no plan: {error.text}")]
    commands: list[Command] = []
    for group, failure in event.solution.failed.items():
        if group not in state.groups:
            continue  # it was undeployed while we solved
        state.errors[group] = WireError(**failure.to_wire())
        commands.append(Note(f"no plan for group {group}: {failure.text}", group=group))
    if not forced and not _worth(state, event.solution, why, now):
        return commands
    for group in event.solution.failed:
        commands += _withdraw(state, group)
    for group, answer in event.solution.groups.items():
        record = state.groups.get(group)
        if record is None or answer.record != record:
            state.want(why, forced=True)  # it changed while we solved
            continue
        state.errors.pop(group, None)
        commands += _propose(state, record, answer.plan, why, now)
    return commands


def _worth(state: SchedulerState, solution: Solution, why: str, now: float) -> bool:
    """Whether a change that nothing forces pays: enough gain, more than its loading costs, and not too soon again."""
    if solution.gain == float("inf") or any(unplaced(state, group) for group in solution.groups):
        return True
    free = state.changed_at + MIN_DWELL_S
    if now < free:
        state.want(why)  # it is put off, not forgotten
        state.not_before = free
        return False
    return solution.gain >= WORTH_MOVING and (solution.gain - 1.0) * DWELL_S > solution.load_s


def unplaced(state: SchedulerState, group: str) -> bool:
    """Whether `group` has no plan, only that of an earlier deployment, or none that could be carried out."""
    serving = state.serving(group)
    return serving is None or serving.group != state.groups.get(group) or group in state.errors


def _propose(state: SchedulerState, record: GroupRecord, answer: Plan, why: str, now: float) -> list[Command]:
    """Publish `answer` as the group's next plan, unless that is what it has."""
    group = record.spec.name
    known = state.plans.get(group) or PlanRecord(group=group)
    newest = known.next or known.active
    if newest is not None and _same(newest, answer, record):
        return []
    back = known.active
    if known.next is not None and back is not None and _same(back, answer, record):
        state.plans[group] = PlanRecord(group=group, active=back)  # the change is off
        note = Note(f"group {group}: plan {back.epoch} stays", group=group, epoch=back.epoch)
        return [StorePlan(state.plans[group]), note]
    state.epoch += 1
    state.changed_at = now
    plan = answer.model_copy(update={"epoch": state.epoch, "reason": why})
    state.plans[group] = PlanRecord(group=group, active=known.active, next=plan)
    note = Note(f"group {group}: plan {plan.epoch} proposed: {why}", group=group, epoch=plan.epoch)
    return [StorePlan(state.plans[group]), note]


def _withdraw(state: SchedulerState, group: str) -> list[Command]:
    """Delete the plan of a group that was left out: its place is another's. One that lost a device waits for it."""
    record = state.plans.get(group)
    plan = (record.active or record.next) if record is not None else None
    if plan is None or not plan.devices <= set(state.alive()):
        return []
    del state.plans[group]
    return [DeletePlan(group), Note(f"group {group}: plan {plan.epoch} is withdrawn", group=group, epoch=plan.epoch)]


def _same(plan: Plan, answer: Plan, record: GroupRecord) -> bool:
    return plan.shares == answer.shares and plan.models == answer.models and plan.group == record


def activate(state: SchedulerState) -> list[Command]:
    """Switch to each next plan whose devices are all ready."""
    commands: list[Command] = []
    for group, record in list(state.plans.items()):
        plan = record.next
        if plan is not None and all(state.live.ready(d, group, plan.epoch) for d in plan.devices):
            state.plans[group] = PlanRecord(group=group, active=plan)
            state.learned.forget_placement(group)
            note = Note(f"group {group}: plan {plan.epoch} is active", group=group, epoch=plan.epoch)
            commands += [StorePlan(state.plans[group]), note]
    return commands


def refused(state: SchedulerState, record: PlanRecord, error: WireError) -> list[Command]:
    """The store will never take `record`: what was written before stays, and the group says why."""
    group = record.group
    if state.plans.get(group) != record:
        return []  # another one was decided meanwhile
    state.errors[group] = error
    if record.next is not None and record.active is not None:
        state.plans[group] = PlanRecord(group=group, active=record.active)
    else:
        del state.plans[group]
    return [Note(f"no plan for group {group}: {error.text}", group=group, epoch=record.newest)]
