"""Plans that agents refuse: what follows, once for each plan. Pure.

An agent reports a refusal in each heartbeat for as long as it has the plan. What it refused may be tried again before:
then the answer of before counts no more.
"""

from __future__ import annotations

from hams_scheduler import history, plan_switching
from hams_scheduler.events import Command
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.agents import AssignmentState, Heartbeat
from hams_shared.wire.messages.plan import PlanRecord


def take(state: SchedulerState, heartbeat: Heartbeat, assignment: AssignmentState) -> list[Command]:
    """Take the device out of a group whose plan it refused, and request another plan; once for each plan."""
    if assignment.error is None:
        return []
    group, error = assignment.group, assignment.error
    record = state.plans.records.get(group)
    key = (group, heartbeat.incarnation)
    plans = (record.active, record.next) if record else ()
    refused = next((p for p in plans if p and p.epoch == assignment.epoch), None)
    if record is None or refused is None or refused.group != state.groups.records.get(group):
        return []  # an answer to an earlier plan
    if _answered(state, heartbeat, assignment):
        return []
    digests = {assignment.digest} if assignment.digest else refused.variants_on(heartbeat.device)
    networks = {(heartbeat.incarnation, digest): error.text for digest in digests}
    if key in state.groups.refused or (networks and networks.keys() <= state.groups.banned.keys()):
        return []
    if networks:  # the device may serve the group with others: with the sources of variants, or its other nodes
        state.groups.banned.update(networks)
    else:
        state.groups.refused[key] = error
    state.request_replan(f"{heartbeat.device} refused: {error.text}", mandatory=True)
    about = {"device": heartbeat.device, "group": group, "epoch": assignment.epoch}
    text = f"{heartbeat.device} refuses plan {assignment.epoch} of {group}"
    history.tell(state, "refused", text, error.text, **about)
    return (
        [plan_switching.store(state, PlanRecord(group=group, active=record.active))] if refused is record.next else []
    )


def _answered(state: SchedulerState, heartbeat: Heartbeat, assignment: AssignmentState) -> bool:
    """Whether this refusal was answered before; from now on it is."""
    key = (assignment.group, heartbeat.incarnation, assignment.digest)
    before = state.groups.answered.get(key, 0)
    state.groups.answered[key] = max(before, assignment.epoch)
    return assignment.epoch <= before
