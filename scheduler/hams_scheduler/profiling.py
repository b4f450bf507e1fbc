"""Which cells of the FPS matrix are measured, and when. Pure.

Cells that a group waits for are measured at once. Variants of what serves already are measured while their device is
idle. A cell is doubtful when others used the device's cores during the measurement, or when serving is clearly faster
than measured. A doubtful cell is measured again while nothing computes on the host, a few times at most: a busy box
keeps what it has. People may ask for any cell at any time (``hams-ctl matrix --measure``).

A benchmark that ends without a number (no answer, no memory, a device that failed) is attempted three times in a row,
then after pauses of 1, 2 … 60 minutes. A network that is out on a device is measured once it may run there again.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from hams_scheduler.events import Command, Note, Profile
from hams_scheduler.network import Cell, Network
from hams_scheduler.state import SchedulerState
from hams_scheduler.state_parts import GroupCells, NeededCell, check
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord, ModelRef

OTHERS_LOAD = 0.15
"""Others used more than this part of the cores: the number is too low."""
FASTER = 1.15
"""Serving is this many times as fast as measured, or more: the number is too low."""
SEEN_S = 10.0
"""Busy time from which on serving counts, s."""
NOTHING_COMPUTES = 0.1
"""A device that computes for less than this part of the time does nothing."""
AGAIN_S = 60.0
"""Pause before a doubtful cell is measured again, s."""
LOOK_S = 1.0
"""Pause between two searches for doubtful cells, s."""
REPEATS = 3
"""How often a doubtful cell is measured again without a request."""
IDLE = 0.5
"""A device that computes for less than this part of the time is idle enough for benchmarks that can wait."""
IDLE_WAIT_S = 30.0
"""How long such benchmarks wait for that, s; then they run between the batches."""

CELLS_LIMIT = 4096
"""Most groups of which the cells are kept."""


# ── cells that are needed ─────────────────────────────────────────────────────────────────────────────────────────


def needed(state: SchedulerState, record: GroupRecord) -> GroupCells:
    """The cells that `record` needs; kept until devices or networks change, or the group begins to serve.

    Variants of the networks of a group that serves may wait for an idle device. A group that does not serve yet waits
    for all of them. A new measurement only makes fewer of them missing, and a lost device takes its own away.
    """
    kept = state.profiles
    at = (state.devices.revision, state.groups.variants_revision, kept.forgotten)
    if at != kept.needed_at:
        _renew_needed(state, at)
    serves = state.plans.active(record.spec.name) is not None
    known = kept.needed.get(record.spec.name)
    if known is None or known.record is not record or known.serves != serves:
        if len(kept.needed) > CELLS_LIMIT:
            kept.needed.clear()
        known = kept.needed[record.spec.name] = _find_needed(state, record)
    elif known.answers != kept.answers and (known.missing or known.missing_idle):
        known = kept.needed[record.spec.name] = _with_missing(state, known)
    return known


def _renew_needed(state: SchedulerState, at: tuple[int, ...]) -> None:
    """Drop the cells that are kept, or those of devices that were lost where nothing else has changed."""
    kept, lives = state.profiles, state.devices.lives()
    left = {life.device for life in lives}
    gone = {life.device for life in kept.needed_for} - left
    same = at[1:] == kept.needed_at[1:] and lives == tuple(life for life in kept.needed_for if life.device in left)
    kept.needed = {name: cells.without(gone) for name, cells in kept.needed.items()} if same else {}
    kept.needed_at, kept.needed_for = at, lives


def _find_needed(state: SchedulerState, record: GroupRecord) -> GroupCells:
    serves = state.plans.active(record.spec.name) is not None
    devices = [(device, state.devices.records[device]) for device in state.devices.alive()]
    cells: tuple[list[NeededCell], list[NeededCell]] = ([], [])
    for node in record.spec.depth_first():
        source, *variants = state.groups.networks(record, node)
        for network in (source, *variants):
            cells[serves and bool(network.label)].extend(
                NeededCell(device, source, network, network.cell(on)) for device, on in devices
            )
    required, idle = cells
    return _with_missing(state, GroupCells(record, serves, tuple(required), tuple(idle)))


def _with_missing(state: SchedulerState, cells: GroupCells) -> GroupCells:
    """`cells` with the benchmarks of those that nobody has measured by now; a network that is out waits for its end."""
    return replace(
        cells,
        missing=_unmeasured(state, cells.required),
        missing_idle=_unmeasured(state, cells.idle),
        answers=state.profiles.answers,
    )


def _unmeasured(state: SchedulerState, cells: tuple[NeededCell, ...]) -> tuple[Profile, ...]:
    wanted: dict[tuple[str, str], Profile] = {}
    for one in cells:
        if one.cell.key in state.profiles.records or one.cell.digest in state.devices.faulty(one.device):
            continue
        if state.profiles.unanswered.given_up(state.devices.incarnation(one.device), one.cell) is None:
            wanted.setdefault((one.device, one.cell.key), _benchmark(state, one))
    return tuple(wanted.values())


def _benchmark(state: SchedulerState, one: NeededCell) -> Profile:
    """The request for a benchmark; a variant is measured in turns with its source, where that runs."""
    return Profile(one.device, one.network.model, one.cell, _baseline(state, one) if one.network.label else None)


def _baseline(state: SchedulerState, one: NeededCell) -> tuple[ModelRef, Cell] | None:
    cell = one.source.cell(state.devices.records[one.device])
    known = state.profiles.records.get(cell.key)
    return (one.source.model, cell) if known is not None and known.fps > 0 else None


def missing(state: SchedulerState, records: list[GroupRecord], *, idle: bool = False) -> list[Profile]:
    """The benchmarks of needed cells that nobody has measured: required ones, or those that wait for `idle` devices."""
    wanted: dict[tuple[str, str], Profile] = {}
    for record in records:
        cells = needed(state, record)
        for one in cells.missing_idle if idle else cells.missing:
            wanted.setdefault((one.device, one.cell.key), one)
    return list(wanted.values())


def unmeasured(state: SchedulerState, records: list[GroupRecord]) -> bool:
    """Whether `records` wait for required benchmarks, or for what reading their videos costs."""
    return bool(missing(state, records)) or state.videos.missing(records)


def waits_for_benchmark(state: SchedulerState, record: GroupRecord) -> bool:
    """Whether no known device runs some node of `record`, and a missing benchmark may change that."""
    absent = {(wanted.device, wanted.cell.key) for wanted in missing(state, [record])}
    refused = state.groups.refused
    able = [d for d in state.devices.alive() if (record.spec.name, state.devices.incarnation(d)) not in refused]
    for node in record.spec.depth_first() if absent else ():
        pin = record.spec.nodes[node].pin
        cells = [
            (device, network.key(state.devices.records[device]))
            for network in state.groups.networks(record, node)
            for device in able
            if (not pin or device in pin) and not _out(state, device, network)
        ]
        known = state.profiles.records
        runs = any(key in known and known[key].fps > 0 for _, key in cells)
        if not runs and not absent.isdisjoint(cells):
            return True
    return False


def _out(state: SchedulerState, device: str, network: Network) -> bool:
    """Whether `device` does not run `network`, whatever was measured."""
    digest = network.model.digest
    banned = (state.devices.incarnation(device), digest) in state.groups.banned
    return banned or digest in state.devices.faulty(device)


# ── what starts now ───────────────────────────────────────────────────────────────────────────────────────────────


def start_due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Command]:
    """Start the benchmarks that may run now."""
    drafts = state.drafts()
    required = missing(state, groups + drafts) + missing(state, drafts, idle=True) + _requested(state, groups)
    again = _doubtful_due(state, groups, now)
    started = _start(state, required + _idle_due(state, groups, now) + again)
    notes = [Note(f"{one.cell.model} is measured again on {one.device}", one.device) for one in again if one in started]
    return [*started, *notes]


def _start(state: SchedulerState, benchmarks: list[Profile]) -> list[Profile]:
    """One benchmark at a time per device, and none at once on devices of one host that share cores."""
    started: list[Profile] = []
    running, records = state.profiles.running, state.devices.records
    for wanted in benchmarks:
        device, cell = wanted.device, wanted.cell
        busy = [records[d] for d in running if d in records]
        measured_now = any(cell.key == other.key for other, _ in running.values())
        if device in running or measured_now or any(_share_cores(records[device], other) for other in busy):
            continue
        running[device] = (cell, state.devices.incarnation(device))
        started.append(wanted)
    return started


def waits_for(state: SchedulerState, record: GroupRecord) -> str:
    """What an answer about `record` waits for, as a line of the log."""
    if not state.leading:
        return "a leader: this scheduler does not lead"
    if not state.devices.alive():
        return "a device: none is alive"
    running = [f"{cell.model} on {device}" for device, (cell, _) in sorted(state.profiles.running.items())]
    benchmarks = missing(state, [record]) + missing(state, [record], idle=True)
    waiting = [name for one in benchmarks if (name := f"{one.cell.model} on {one.device}") not in running]
    if not benchmarks and state.videos.missing([record]):
        return "the pipeline, which measures its videos"
    if not benchmarks:
        return "its answer, which is being computed"
    parts = [f"{len(benchmarks)} benchmarks", f"running: {', '.join(running) or 'none'}"]
    return "; ".join([*parts, f"not begun: {', '.join(waiting[:3])}"] if waiting else parts)


def _share_cores(a: DeviceRecord, b: DeviceRecord) -> bool:
    """Whether two devices compute on the same CPU cores; an unpinned CPU device uses all of them."""
    if a.host != b.host or "cpu" not in (a.kind, b.kind):
        return False
    return not a.cores or not b.cores or bool(set(a.cores) & set(b.cores))


def _idle_due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Profile]:
    """Benchmarks that wait for an idle device and may run now."""
    waiting = missing(state, groups, idle=True)
    if not waiting:
        state.profiles.idle_since = None
        return []
    if state.profiles.idle_since is None:
        state.profiles.idle_since = now
    waited = now - state.profiles.idle_since >= IDLE_WAIT_S
    return [one for one in waiting if waited or state.devices.busy_share(one.device) < IDLE]


# ── cells that are measured again ─────────────────────────────────────────────────────────────────────────────────


def doubt(state: SchedulerState, device: str, profile: ProfileRecord) -> str:
    """Why the number may be wrong; empty: it is trusted."""
    if profile.reason is not None:
        return ""
    if profile.load > OTHERS_LOAD:
        return f"others used {profile.load:.0%} of its cores while it was measured"
    faster = _times_as_fast(state, device)
    return f"serving is {faster:.2f} times as fast as measured" if faster >= FASTER else ""


def _times_as_fast(state: SchedulerState, device: str) -> float:
    """How many times as fast as measured `device` serves; 1 while too little was seen."""
    ratio = state.learned.device_eta.get(device)
    return ratio.value(1.0, 0.0) if ratio is not None and ratio.below >= SEEN_S else 1.0


def request(state: SchedulerState, model: str, device: str, *, refused: bool = False) -> None:
    """Request that cells are measured again: of models and devices by name or pattern, empty: all.

    With `refused`, only those whose measurement was that the device does not run the model.
    """
    state.profiles.requested |= {
        (one.device, one.cell.key)
        for one in _cells(state, state.groups.sorted())
        if _matches(model, (one.source.model.name, one.network.model.name))
        and _matches(device, (one.device, one.device.split(".", 1)[-1]))
        and (_is_refused(state, one) or not refused)
    }


def _is_refused(state: SchedulerState, one: NeededCell) -> bool:
    known = state.profiles.records.get(one.cell.key)
    return known is not None and known.reason is not None


def _matches(pattern: str, names: tuple[str, ...]) -> bool:
    return not pattern or any(fnmatchcase(name, pattern) for name in names)


def _cells(state: SchedulerState, groups: list[GroupRecord]) -> list[NeededCell]:
    return [one for group in groups for cells in [needed(state, group)] for one in (*cells.required, *cells.idle)]


def _requested(state: SchedulerState, groups: list[GroupRecord]) -> list[Profile]:
    """The benchmarks that people requested; those of cells that are gone are dropped."""
    if not state.profiles.requested:
        return []
    cells = {(one.device, one.cell.key): one for one in _cells(state, groups)}
    state.profiles.requested &= cells.keys()
    return [_benchmark(state, cells[key]) for key in sorted(state.profiles.requested)]


def _doubtful_due(state: SchedulerState, groups: list[GroupRecord], now: float) -> list[Profile]:
    """Benchmarks of doubtful cells that may run now."""
    profiles = state.profiles
    if now < profiles.next_look:
        return []
    profiles.next_look = now + LOOK_S
    doubtful = {key for key in profiles.loaded if profiles.records[key].load > OTHERS_LOAD}
    faster = {device for device in state.devices.alive() if _times_as_fast(state, device) >= FASTER}
    if not (doubtful or faster or profiles.repeated):
        return []
    cells = _cells(state, groups)
    there = {(one.device, one.cell.key) for one in cells}
    profiles.repeated = {key: repeats for key, repeats in profiles.repeated.items() if key in there}
    found = []
    for one in cells:
        if one.cell.key not in doubtful and one.device not in faster:
            continue
        profile = profiles.records.get(one.cell.key)
        if profile is None or not doubt(state, one.device, profile) or not _nothing_computes(state, one.device):
            continue
        repeats, last = profiles.repeated.setdefault((one.device, one.cell.key), (0, now))
        if repeats < REPEATS and now - last >= AGAIN_S:
            found.append(_benchmark(state, one))
    return found


def replaces(state: SchedulerState, device: str, record: ProfileRecord, now: float) -> bool:
    """Take note of a new measurement; return whether it replaces the known one."""
    cell = (device, record.key)
    known = state.profiles.records.get(record.key)
    requested = cell in state.profiles.requested
    state.profiles.requested.discard(cell)
    if known is None:
        return True
    if not requested and not doubt(state, device, known):
        return True
    repeats, _ = state.profiles.repeated.get(cell, (0, now))
    state.profiles.repeated[cell] = (repeats + 1, now)
    return requested or known.reason is not None or record.load <= known.load


def _nothing_computes(state: SchedulerState, device: str) -> bool:
    """Whether nothing computes on the device, nor on another of the same host."""
    records = state.devices.records
    same_host = [d for d in state.devices.alive() if records[d].host == records[device].host]
    running = any(d in state.profiles.running for d in same_host)
    return not running and all(state.devices.busy_share(d) < NOTHING_COMPUTES for d in same_host)


def validate(state: SchedulerState) -> None:
    """Raise StateError unless the cells that are kept are those that are needed; for tests."""
    for record in state.groups.sorted():
        kept, found = needed(state, record), _find_needed(state, record)
        check(replace(kept, answers=found.answers) == found, f"the cells of {record.spec.name} are out of date")
