"""From a solution to plans: whether it is worth the move, what is proposed, withdrawn, activated, given up. Pure.

A plan is published as ``next``; when every device of it has loaded it, it becomes ``active``. Epochs only grow.
"""

from __future__ import annotations

from collections.abc import Iterable

from hams_scheduler import forgetting
from hams_scheduler.events import Command, DeletePlan, Solved, StorePlan
from hams_scheduler.kept_plans import same
from hams_scheduler.left_out import what_stays
from hams_scheduler.plan_memory import fits_beside
from hams_scheduler.planning import Solution
from hams_scheduler.standing_still import is_refused, stands_still
from hams_scheduler.state import SchedulerState
from hams_shared.group.difference import Effect, difference
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, PlanRecord

WORTH_MOVING = 1.10
"""A change that nothing forces must promise at least this times the FPS."""
DWELL_S = 60.0
"""How long a placement is expected to last, s: its gain over that time must exceed the time spent loading."""
MIN_DWELL_S = 15.0
"""A placement is left alone for this long after a change that nothing forces is made, s."""
DRIFT = 0.15
"""A prediction by what was learned this far from the earlier one requests a new solution."""
LOOK_S = 2.0
"""Pause between two searches for such groups, s."""
COUNTED_ALIKE = frozenset({Effect.NONE, Effect.DECODE, Effect.PLAN, Effect.STREAM})
"""Effects of changes that leave it as it is which frames and objects nodes are given; thresholds are learned anew."""


def take(state: SchedulerState, event: Solved, now: float) -> list[Command]:
    """Take a solution: propose the plans that are worth it, and note the groups that have none."""
    if event.generation != state.replanning.generation:
        return []
    why, mandatory = state.replanning.solving or ("", False)
    state.replanning.solving, state.replanning.last = None, why
    if event.solution is None:
        error = WireError(**event.error.to_wire()) if event.error else WireError(code="internal", text="no solution")
        state.groups.errors.update(dict.fromkeys(state.groups.records, error))
        return []
    commands: list[Command] = []
    for group, failure in event.solution.failed.items():
        if group not in state.groups.records:
            continue  # it was undeployed meanwhile
        state.groups.errors[group] = WireError(**failure.to_wire())
    if not mandatory and not _worth_switching(state, event.solution, why, now):
        return commands
    if event.solution.hasty:
        state.request_replan(f"the plans made in haste are compared with a solution from scratch ({why})")
        state.replanning.not_before = now + MIN_DWELL_S
    for group in event.solution.failed:
        commands += _withdraw(state, group, gone=group in event.solution.gone)
    for group, plan in event.solution.plans.items():
        if plan.group != state.groups.records.get(group):
            state.request_replan(why, mandatory=True)  # the group changed during the solution
            continue
        state.groups.errors.pop(group, None)
        commands += _propose(state, plan, why, now)
    return commands


def _worth_switching(state: SchedulerState, solution: Solution, why: str, now: float) -> bool:
    """Whether a change that is not mandatory pays: enough gain, more than loading costs, not too soon after another.

    What is loaded must have room beside what serves: else the load fails.
    """
    if solution.gain == float("inf") or any(_has_none(state, group) for group in solution.plans):
        return True
    free = state.replanning.changed_at + MIN_DWELL_S
    if now < free:
        state.request_replan(why)  # it is put off, not dropped
        state.replanning.not_before = free
        return False
    pays = solution.gain >= WORTH_MOVING and (solution.gain - 1.0) * DWELL_S > solution.load_s
    return pays and fits_beside(state, solution.plans)


def _has_none(state: SchedulerState, group: str) -> bool:
    """Whether `group` has no plan that is carried out."""
    return state.unplaced(group) or stands_still(state, group)


def _propose(state: SchedulerState, plan: Plan, why: str, now: float) -> list[Command]:
    """Publish `plan` as its group's next, unless the group has the same already and no device refuses that."""
    group = plan.group.spec.name
    known = state.plans.records.get(group) or PlanRecord(group=group)
    newest = known.next or known.active
    if newest is not None and same(newest, plan) and not is_refused(state, newest):
        return []
    back = known.active
    if known.next is not None and back is not None and same(back, plan) and not is_refused(state, back):
        return [store(state, PlanRecord(group=group, active=back))]
    plan = plan.model_copy(update={"epoch": state.plans.epoch + 1, "reason": why})
    state.replanning.changed_at = now
    return [store(state, PlanRecord(group=group, active=known.active, next=plan))]


def store(state: SchedulerState, record: PlanRecord) -> StorePlan:
    """Keep `record` and have it written."""
    state.plans.put(record)
    return StorePlan(record)


def _withdraw(state: SchedulerState, group: str, *, gone: bool) -> list[Command]:
    """Take back what does not stay of the plans of a group that was left out; `gone`: nothing does."""
    record = state.plans.records.get(group)
    if record is None or (record.active is None and record.next is None):
        return []
    left = None if gone else what_stays(state, record, set(state.devices.alive()))
    if left is None:
        state.plans.remove(group)
        return [DeletePlan(group)]
    return [store(state, left)] if left != record else []


def activate(state: SchedulerState, groups: Iterable[str]) -> list[Command]:
    """Switch to the next plan of each of `groups` whose devices are all ready."""
    commands: list[Command] = []
    if not state.plans.pending:
        return commands
    for group in sorted(state.plans.pending.intersection(groups)):
        plan = state.plans.records[group].next
        if plan is not None and all(state.devices.live.ready(d, group, plan.epoch) for d in plan.devices):
            _carry_on(state, state.plans.active(group), plan)
            commands.append(store(state, PlanRecord(group=group, active=plan)))
    return commands


def _carry_on(state: SchedulerState, before: Plan | None, plan: Plan) -> None:
    """Keep what was learned under the plan `before` where it holds under `plan`."""
    group = plan.group.spec.name
    if before is None or (before.shares, before.models) != (plan.shares, plan.models):
        state.learned.forget_placement(group)
    if before is not None:
        forgetting.work(state.learned, before.group, plan.group)
    if before is not None and counted_alike(before.group, plan.group):
        state.learned.frames.carry_on(group, before.group.deployed_at, plan.group.deployed_at)


def counted_alike(old: GroupRecord, new: GroupRecord) -> bool:
    """Whether what was counted of frames under `old` holds under `new`: which work is left out has not changed."""
    return old == new or COUNTED_ALIKE.issuperset(change.effect for change in difference(old, new).changes)


def refused(state: SchedulerState, record: PlanRecord, error: WireError) -> list[Command]:
    """The store will never take `record`: what was written before stays, and the group has the error."""
    group = record.group
    if state.plans.records.get(group) != record:
        return []  # another one was decided meanwhile
    state.groups.errors[group] = error
    if record.next is not None and record.active is not None:
        state.plans.put(PlanRecord(group=group, active=record.active))
    else:
        state.plans.remove(group)
    return []


def request_on_drift(state: SchedulerState, now: float) -> None:
    """Request a new solution when by what was learned some group reaches another FPS than when its place was found.

    What is predicted renews itself whenever a plan changes: then the groups share the devices in another way.
    """
    replanning = state.replanning
    if replanning.mandatory:
        return
    if replanning.predicted_at != state.plans.revision:
        replanning.predicted, replanning.predicted_at = state.prediction().fps, state.plans.revision
        return
    if now < max(
        replanning.looked_at + LOOK_S, replanning.changed_at + MIN_DWELL_S, replanning.drifted_at + MIN_DWELL_S
    ):
        return
    replanning.looked_at = now
    if state.plans.pending:
        return
    found = state.prediction().fps
    if found.keys() != replanning.predicted.keys():  # a group stands still, or serves again
        replanning.predicted = found
    for group, fps in found.items():
        before = replanning.predicted.get(group, 0.0)
        if before > 0 and abs(fps / before - 1.0) > DRIFT:
            replanning.drifted_at, replanning.predicted = now, found
            state.request_replan(f"group {group}: {fps:.1f} FPS by what was learned, {before:.1f} predicted")
            return
