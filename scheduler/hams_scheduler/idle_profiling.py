"""When to measure what nobody waits for: while a device has little to do, or when that takes too long to come. Pure."""

from __future__ import annotations

from hams_scheduler.events import Profile
from hams_scheduler.learning import RATE_MEMORY_S, Ratio
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.group import GroupRecord

QUIET = 0.5
"""A device that computes for less than this part of the time is quiet."""
QUIET_WAIT_S = 30.0
"""How long measurements wait for that, s; then they are made between the batches."""


def note_busy(state: SchedulerState, beat: Heartbeat) -> None:
    """Take a heartbeat, before the state has."""
    last = state.live.peers.get(beat.device)
    if last is None or last.heartbeat.incarnation != beat.incarnation:
        state.busy[beat.device] = Ratio(RATE_MEMORY_S)
    elif (seconds := beat.uptime_s - last.heartbeat.uptime_s) > 0:
        state.busy.setdefault(beat.device, Ratio(RATE_MEMORY_S)).add(beat.busy_s - last.heartbeat.busy_s, seconds)


def due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Profile]:
    """What of `groups` may be measured now."""
    spare = state.missing(groups, spare=True)
    if not spare:
        state.spare_since = None
        return []
    if state.spare_since is None:
        state.spare_since = now
    waited = now - state.spare_since >= QUIET_WAIT_S
    return [one for one in spare if waited or state.busy_part(one.device) < QUIET]
