"""The journal of what schedulers tell, and what must hold of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hams_scheduler.events import Command, Tell
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.history import HistoryEntry
from hams_shared.wire.messages.plan import PlanRecord

OF_PLANS = frozenset({"plan", "plan-active", "plan-dropped", "plan-withdrawn"})


@dataclass
class Journal:
    """Stored entries, oldest first."""

    entries: list[HistoryEntry] = field(default_factory=list)

    def store(self, entry: HistoryEntry) -> None:
        """Store an entry; one that repeats the newest about the same device, group or plan is told twice."""
        about = (entry.device, entry.group)
        earlier = [one for one in self.entries if (one.device, one.group) == about and one.kind not in ("refused",)]
        assert all(one.id != entry.id for one in self.entries)
        if entry.kind in ("device-lost", "group-undeployed", "group-deployed", "quarantine") and earlier:
            newest = next(one for one in reversed(earlier) if entry.device or one.kind.startswith("group-"))
            assert (newest.kind, newest.key) != (entry.kind, entry.key), f"told twice: {entry.sentence}"
        self.entries.append(entry)


def check_plans(before: Mapping[str, PlanRecord], state: SchedulerState, commands: list[Command]) -> None:
    """Every change of a plan gives exactly one entry, with the epoch that it leads to."""
    entries = [command.entry for command in commands if isinstance(command, Tell)]
    told = Counter((one.kind, one.group, one.epoch) for one in entries if one.kind in OF_PLANS)
    wanted: Counter[tuple[str, str, int]] = Counter()
    for group in before.keys() | state.plans.records.keys():
        old, new = before.get(group) or PlanRecord(group=group), state.plans.records.get(group)
        if new is None:
            if group in state.groups.records:
                wanted["plan-withdrawn", group, 0] += 1
            continue
        if new.newest > old.newest:
            wanted["plan", group, new.newest] += 1
        elif new.newest < old.newest:
            wanted["plan-dropped", group, new.newest] += 1
        if new.active is not None and new.in_force != old.in_force:
            wanted["plan-active", group, new.in_force] += 1
    assert told == wanted, f"told {told}, changed {wanted}"


def check_end(journal: Journal, state: SchedulerState) -> None:
    """In the end the newest entries are what is so."""
    devices: dict[str, str] = {}
    groups: dict[str, str] = {}
    active: dict[str, int] = {}
    for one in journal.entries:
        if one.kind in ("device-here", "device-back", "device-lost", "quarantine", "resumed"):
            devices[one.device] = one.kind
        elif one.kind in ("group-deployed", "group-undeployed"):
            groups[one.group] = one.kind
        elif one.kind == "plan-active":
            active[one.group] = one.epoch
    lost = {device for device, kind in devices.items() if kind in ("device-lost", "quarantine")}
    assert lost == devices.keys() - set(state.devices.alive())
    assert set(state.devices.alive()) <= devices.keys()
    assert {group for group, kind in groups.items() if kind == "group-deployed"} == state.groups.records.keys()
    for group, record in state.plans.records.items():
        assert active[group] == record.in_force
