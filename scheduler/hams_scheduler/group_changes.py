"""A group is deployed, or deployed again: what of its plan goes on, and whether it is placed anew. Pure.

The plan of before serves until the next one is loaded. Where networks, nodes and what places them stay, the next plan
is the same one for the new record: nothing is solved, measured or loaded, and it is in force within a heartbeat.
"""

from __future__ import annotations

from hams_scheduler import forgetting, plan_switching
from hams_scheduler.events import Command
from hams_scheduler.state import SchedulerState
from hams_shared.group.difference import Difference, Effect, difference
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import PlanRecord

REFUSABLE = frozenset({Effect.DECODE, Effect.LOAD, Effect.GRAPH})
"""Effects of changes after which a device that refused the group may take it."""
PLACED_ALIKE = frozenset({Effect.NONE, Effect.FRAMES, Effect.DECODE, Effect.STREAM})
"""Effects of changes with which a placement stays possible."""


def take(state: SchedulerState, group: str, record: GroupRecord) -> list[Command]:
    """Take the record of a group; return the plan that goes on with it, if one does."""
    known, newest = state.groups.records.get(group), state.plans.serving(group)
    effects = {change.effect for change in difference(known, record).changes} if known is not None else set()
    again = not effects or not REFUSABLE.isdisjoint(effects)  # deployed as it was, they are asked again, too
    state.groups.set_record(group, record, keep_refused=not again)
    state.plans.adopting.discard(group)
    if newest is None:
        state.request_replan(f"group {group} deployed", mandatory=True)
        return []
    if newest.group == record:
        state.request_replan(f"group {group} deployed")
        return []
    changed = difference(newest.group, record)
    forgetting.reading(state.learned, group, changed)
    why = f"group {group} changed: {_named(changed)}"
    goes_on = placed_alike(newest.group, record, changed)
    if not goes_on or changed.strongest is not Effect.NONE:
        state.request_replan(why, mandatory=not goes_on)
    if not goes_on:
        return []
    plan = newest.model_copy(update={"epoch": state.plans.epoch + 1, "group": record, "reason": why})
    return [plan_switching.store(state, PlanRecord(group=group, active=state.plans.active(group), next=plan))]


def placed_alike(old: GroupRecord, new: GroupRecord, changed: Difference) -> bool:
    """Whether a placement of `old` places `new`, too: its nodes have the same networks, and may be where they are."""
    if any(change.effect not in PLACED_ALIKE and change.effect is not Effect.GRAPH for change in changed.changes):
        return False
    before, after = old.spec.nodes, new.spec.nodes
    return before.keys() == after.keys() and all(before[node].parent == after[node].parent for node in after)


def _named(changed: Difference) -> str:
    """The first changes, for people."""
    paths = [change.path for change in changed.changes]
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more or "deployed again"
