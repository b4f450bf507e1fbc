"""Which cells of the FPS matrix may be wrong, and when they are measured again. Pure.

A number is doubtful when others used the device's cores while it was taken, or when serving takes clearly less time
than it says. Such a cell is measured again while nothing else computes there, a few times at most: a box that is never
idle keeps what it has. People may ask for any cell at any time (``hams-ctl matrix --measure``).
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from hams_scheduler.events import Profile
from hams_scheduler.state import SchedulerState
from hams_scheduler.variant_candidates import Candidate, Cell
from hams_shared.wire.messages.agents import ProfileRecord
from hams_shared.wire.messages.group import GroupRecord

LOADED = 0.15
"""Others used more than this part of the cores: the number is too low."""
FASTER = 1.15
"""Serving is so many times as fast as measured, or more: the number is too low."""
SEEN_S = 10.0
"""Busy time from which on serving counts, s."""
IDLE = 0.1
"""A device that computes for less than this part of the time is idle."""
AGAIN_S = 60.0
"""Pause before a doubtful cell is measured again, s."""
LOOK_S = 1.0
"""How often doubtful cells are looked for, s."""
TRIES = 3
"""How often a doubtful cell is measured again by itself."""


def doubt(state: SchedulerState, device: str, profile: ProfileRecord) -> str:
    """Why the number may be wrong; empty: it is trusted."""
    if profile.reason is not None:
        return ""
    if profile.load > LOADED:
        return f"others used {profile.load:.0%} of its cores while it was measured"
    ratio = state.learned.device_eta.get(device)
    if ratio is not None and ratio.below >= SEEN_S and (faster := ratio.value(1.0, 0.0)) >= FASTER:
        return f"serving is {faster:.2f} times as fast as measured"
    return ""


def ask(state: SchedulerState, model: str, device: str) -> int:
    """Somebody wants cells measured again: of models and devices by name, empty: all. Returns how many there are."""
    wanted = {
        (on, cell.key)
        for on, source, candidate, cell in _cells(state, list(state.groups.values()))
        if _named(model, (source.model.name, candidate.model.name)) and _named(device, (on, on.split(".", 1)[-1]))
    }
    state.again |= wanted
    return len(wanted)


def asked(state: SchedulerState, groups: list[GroupRecord]) -> list[Profile]:
    """What people want measured again; what is not there any more is forgotten."""
    if not state.again:
        return []
    there = {(on, cell.key): _again(state, on, source, one, cell) for on, source, one, cell in _cells(state, groups)}
    state.again &= there.keys()
    return [there[key] for key in sorted(state.again)]


def due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Profile]:
    """Doubtful cells that may be measured again now."""
    if now < state.doubts_at:
        return []
    state.doubts_at = now + LOOK_S
    found = []
    cells = list(_cells(state, groups))
    there = {(device, cell.key) for device, _, _, cell in cells}
    state.tried = {key: tried for key, tried in state.tried.items() if key in there}
    for device, source, candidate, cell in cells:
        profile = state.profiles.get(cell.key)
        if profile is None or not doubt(state, device, profile) or not _idle(state, device):
            continue
        tries, last = state.tried.setdefault((device, cell.key), (0, now))
        if tries < TRIES and now - last >= AGAIN_S:
            found.append(_again(state, device, source, candidate, cell))
    return found


def replaces(state: SchedulerState, device: str, record: ProfileRecord, now: float) -> bool:
    """Take note of a new measurement; whether it takes the place of what is known."""
    known = state.profiles.get(record.key)
    wanted = (device, record.key) in state.again
    state.again.discard((device, record.key))
    if known is None:
        return True
    if not wanted and not doubt(state, device, known):
        return True
    tries, _ = state.tried.get((device, record.key), (0, now))
    state.tried[device, record.key] = (tries + 1, now)
    return wanted or known.reason is not None or record.load <= known.load


def _again(state: SchedulerState, device: str, source: Candidate, candidate: Candidate, cell: Cell) -> Profile:
    return Profile(device, candidate.model, cell, state.beside(device, source) if candidate.label else None)


def _cells(state: SchedulerState, groups: list[GroupRecord]) -> Iterator[tuple[str, Candidate, Candidate, Cell]]:
    for group in groups:
        yield from state.cells(group)
        yield from state.cells(group, spare=True)


def _named(pattern: str, names: tuple[str, ...]) -> bool:
    return not pattern or any(fnmatchcase(name, pattern) for name in names)


def _idle(state: SchedulerState, device: str) -> bool:
    """Whether nothing computes there, nor on a device of the same host."""
    host = state.devices[device].host
    near = [d for d in state.alive() if state.devices[d].host == host]
    return not any(d in state.profiling for d in near) and all(state.busy_part(d) < IDLE for d in near)
