"""When the solver runs, and for what: solutions that are requested, and those for losses that may come. Pure.

While nothing is requested, the next plans for the loss of each serving device are computed one after another, those of
the likeliest and costliest losses first. A loss for which the plan is ready costs no solving.
"""

from __future__ import annotations

from dataclasses import replace

from hams_scheduler import left_out, plan_switching, profiling
from hams_scheduler.events import Command, Note, Prepare, Prepared, Solve, Solved
from hams_scheduler.kept_plans import CPU_PART, Inputs, Numbers, near
from hams_scheduler.planning import Solution
from hams_scheduler.standing_still import stands_still
from hams_scheduler.state import SchedulerState
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.wire.messages.group import GroupRecord

SOLVE_S = 0.5
"""Time limit of a strategy that searches, s: a lost device has a new plan within a second."""
LOOK_S = 2.0
"""Pause between two searches for plans that are out of date by what was learned, s."""


def solve_due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Command]:
    """Begin the requested solution, if it is due, or take the one that was kept ready for it."""
    replanning = state.replanning
    due = replanning.mandatory or now >= replanning.not_before
    placed = _to_place(state, groups) if replanning.reason and due and replanning.solving is None else []
    if placed:
        mandatory = replanning.mandatory
        ready = _ready(state, groups) if placed == groups and mandatory else None
        why = replanning.reason
        replanning.begin()
        if placed != groups and not any(stands_still(state, group.spec.name) for group in placed):
            state.request_replan(why)  # those that wait are placed when all is measured
        if ready is not None:
            device, solution = ready
            state.kept.used += 1
            note = Note(f"the plan for the loss of {device} was ready", device=device)
            return [note, *plan_switching.take(state, Solved(replanning.generation, solution), now)]
        return [Solve(replanning.generation, _question(state, placed, hasty=mandatory))]
    if not groups:
        replanning.withdraw()
    return []


def _question(state: SchedulerState, groups: list[GroupRecord], *, hasty: bool, lost: str = "") -> PlanningSnapshot:
    """What a solver gets. The strategy is that of the most important group, by name among equals."""
    strategy = max(groups, key=lambda group: group.spec.priority).spec.strategy
    alive = set(state.devices.alive()) - {lost}
    staying = left_out.memory_mib(state, {group.spec.name for group in groups}, alive)
    return replace(state.snapshot(groups, strategy, SOLVE_S, lost=lost), hasty=hasty, staying=staying)


def _to_place(state: SchedulerState, groups: list[GroupRecord]) -> list[GroupRecord]:
    """The groups to place now: all when all is measured; none as long as benchmarks are worth waiting for.

    A group that stands still waits only for benchmarks without which it cannot be placed. The others do not wait then
    either, unless they cannot be placed without a benchmark: their turn comes with it. A new group that is measured
    does not wait for the benchmarks of others: it is placed with the groups that serve.
    """
    if not profiling.unmeasured(state, groups):
        return groups
    ready = [group for group in groups if not profiling.waits_for_benchmark(state, group)]
    if any(stands_still(state, group.spec.name) for group in ready):
        return ready
    new = {group.spec.name for group in ready if state.unplaced(group.spec.name)}
    waiting = {group.spec.name for group in ready if profiling.unmeasured(state, [group])} & new
    if new - waiting <= state.groups.errors.keys():  # all that found no place by what is known now
        return []
    return [group for group in ready if group.spec.name not in waiting]


# ── plans for losses that may come ────────────────────────────────────────────────────────────────────────────────


def _ready(state: SchedulerState, groups: list[GroupRecord]) -> tuple[str, Solution] | None:
    """The solution that was kept for the state as it is now, and the device whose loss led to it."""
    found = state.kept.find(state.devices.lives())
    if found is None:
        return None
    device, kept = found
    now = _inputs(state, groups)
    same = kept.inputs.exactly(now) and near(kept.inputs.numbers, now.numbers, device)
    return (device, kept.solution) if same and kept.solution is not None else None


def _inputs(state: SchedulerState, groups: list[GroupRecord]) -> Inputs:
    """What a solution depends on now."""
    return Inputs(state.devices.lives(), state.placing_inputs(), state.learned_numbers(groups, state.devices.alive()))


def prepare_due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Command]:
    """Begin to compute the plan for the next loss, if nothing else is to be solved."""
    kept, replanning = state.kept, state.replanning
    due = bool(replanning.reason) and (replanning.mandatory or now >= replanning.not_before)
    busy = due or replanning.solving is not None or kept.preparing is not None
    if busy or now < kept.not_before or not groups:
        return []
    known = state.known()
    if known == kept.complete_at or profiling.unmeasured(state, groups):
        return []
    inputs = _inputs(state, groups)
    device = _next(state, inputs)
    if device is None:
        kept.complete_at, kept.not_before = known, now + LOOK_S
        return []
    kept.begin(device, inputs.without(device))
    return [Prepare(kept.generation, device, _question(state, groups, hasty=True, lost=device))]


def _next(state: SchedulerState, inputs: Inputs) -> str | None:
    """The device whose loss is to be solved next; plans of devices that serve no longer are dropped.

    First those without a plan for what serves now, then those whose plan is out of date by what was learned.
    """
    kept = state.kept
    serving = [life.device for life in inputs.lives if life.device in state.plans.by_device]
    if len(inputs.lives) < 2:
        serving = []
    kept.wanted = len(serving)
    kept.plans = {device: one for device, one in kept.plans.items() if device in serving}
    stale = None
    for device in sorted(serving, key=lambda one: (-_risk(state, one), one)):
        known, then = kept.plans.get(device), inputs.without(device)
        if known is None or not known.inputs.exactly(then):
            return device
        if stale is None and not near(known.inputs.numbers, then.numbers, device):
            stale = device
    return stale


def _risk(state: SchedulerState, device: str) -> int:
    """How likely and costly the loss of a device is: how often it was lost or hung, times the groups that it stops."""
    health = state.devices.health.get(device)
    hangs = len(health.hangs) if health is not None else 0
    return (1 + state.kept.losses.get(device, 0) + hangs) * len(state.plans.by_device.get(device, ()))


def losses(state: SchedulerState) -> tuple[int, int]:
    """For how many losses of a device the next plans are ready, and for how many they are to be."""
    now, kept = Inputs(state.devices.lives(), state.placing_inputs(), Numbers.of({})), state.kept
    ready = [d for d, one in kept.plans.items() if one.solution is not None and one.inputs.exactly(now.without(d))]
    return len(ready), kept.wanted


def prepared(state: SchedulerState, event: Prepared, now: float) -> list[Command]:
    """Keep a solution; the next one waits until this one's CPU time is the allowed part of the time."""
    plans = {group: plan for group in state.plans.records if (plan := state.plans.serving(group)) is not None}
    until = now + event.cpu_s * (1.0 / CPU_PART - 1.0)
    state.kept.done(event.generation, event.solution, plans, until)
    return []
