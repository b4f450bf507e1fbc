"""What the history has told so far, by what it is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.history import HistoryEntry
from hams_shared.wire.messages.plan import Plan

OF_DEVICES = frozenset({"device-here", "device-lost", "device-back", "quarantine", "resumed"})


@dataclass
class Told:
    """The newest entries about each device and group, this scheduler's own and those of others."""

    ready: bool = False
    """Whether the journal was read, or nobody waits for it any more: before that nothing is told."""
    complete: bool = True
    """Whether it was read from its first entry ever: then what it does not tell of is new."""
    devices: dict[str, str] = field(default_factory=dict)
    """By device: the newest kind of OF_DEVICES."""
    lives: dict[str, str] = field(default_factory=dict)
    """By device: the incarnation of its agent."""
    groups: dict[str, str] = field(default_factory=dict)
    """By group: the key of its deployment; empty: undeployed."""
    epochs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By group: the epochs of its newest and its active plan."""
    unplaced: dict[str, str] = field(default_factory=dict)
    """By group: why it has no place."""
    number: int = 0
    """Entries that this scheduler has made."""
    waiting: list[HistoryEntry] = field(default_factory=list)
    """Those of the event under way."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """By group: the newest plan when news were last looked for: what the next one is compared with."""
    errors: dict[str, WireError] = field(default_factory=dict)
    """By group: its error at that time."""
    at: tuple[int | bool, ...] = ()
    """The state's revisions at that time."""

    def read(self, entries: Iterable[HistoryEntry], *, complete: bool) -> None:
        """Take what the journal holds in place of what was known."""
        for known in (self.devices, self.lives, self.groups, self.epochs, self.unplaced):
            known.clear()
        self.at = ()
        for entry in entries:
            self.take(entry)
        self.ready, self.complete = True, complete

    def take(self, entry: HistoryEntry) -> None:
        """Take one entry, the newest."""
        if entry.kind in OF_DEVICES:
            self.devices[entry.device], self.lives[entry.device] = entry.kind, entry.key
            return
        newest, active = self.epochs.get(entry.group, (0, 0))
        match entry.kind:
            case "group-deployed":
                self.groups[entry.group] = entry.key
                self.epochs.setdefault(entry.group, (0, 0))
            case "group-undeployed":
                self.groups[entry.group] = ""
                self.epochs.pop(entry.group, None)
                self.unplaced.pop(entry.group, None)
            case "plan":
                self.epochs[entry.group] = entry.epoch, active
                self.unplaced.pop(entry.group, None)
            case "plan-dropped":
                self.epochs[entry.group] = entry.epoch, active
            case "plan-active":
                self.epochs[entry.group] = max(newest, entry.epoch), entry.epoch
            case "plan-withdrawn":
                self.epochs[entry.group] = 0, 0
            case "unplaced":
                self.unplaced[entry.group] = entry.reason
