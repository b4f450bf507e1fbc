"""The entries that a reader of a KV watch has not received yet. Pure; used alike by the NATS and the in-memory bus.

A broker that restarts makes a watch start over: it reads the whole bucket again, which may have gone back in
time, lost keys, or be empty. This state turns such a sequence of *snapshots and changes* into what
:meth:`hams_shared.bus.protocol.KeyValue.watch` promises: all present entries, one None, then only what really changed.
It conflates: a slow reader gets the newest value of a key once, so memory is bounded by the number of keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hams_shared.bus.protocol import Entry


@dataclass
class WatchState:
    """Entries in (`begin`, `add`, `end`), news for the reader out (`take`)."""

    known: dict[str, Entry] = field(default_factory=dict)
    """Present entries, by the newest message about each key."""
    _unread: dict[str, Entry] = field(default_factory=dict)
    _seen: set[str] | None = None
    """Keys of the snapshot being read; None when none is being read."""
    _marker: Literal["waiting", "due", "given"] = "waiting"

    @property
    def complete(self) -> bool:
        """Whether the snapshot begun last has been read to its end."""
        return self._seen is None

    def begin(self) -> None:
        """Start (over): a snapshot of all present entries follows."""
        self._seen = set()

    def add(self, entry: Entry) -> None:
        """Take one entry of the snapshot, or one change after it."""
        if self._seen is not None and entry.value is not None:
            self._seen.add(entry.key)
        old = self.known.get(entry.key)
        if entry.value is None:
            if old is not None:
                self._forget(entry)
        elif old != entry:
            self.known[entry.key] = entry
            self._notify(entry)

    def end(self) -> None:
        """Close the snapshot: known keys that were not in it are gone."""
        if self._seen is None:
            return
        for key in sorted(self.known.keys() - self._seen):
            self._forget(Entry(key, None, self.known[key].revision, lost=True))
        self._seen = None
        if self._marker == "waiting":
            self._marker = "due"

    def take(self) -> list[Entry | None]:
        """Return what the reader has not received, oldest first; nothing before the first snapshot is complete."""
        if self._marker == "waiting":
            return []
        news: list[Entry | None] = list(self._unread.values())
        self._unread.clear()
        if self._marker == "due":
            self._marker = "given"
            news.append(None)
        return news

    def _forget(self, entry: Entry) -> None:
        del self.known[entry.key]
        if self._marker == "given":
            self._notify(entry)
        else:
            # Nothing has been given yet, so the reader need not learn that the key existed.
            self._unread.pop(entry.key, None)

    def _notify(self, entry: Entry) -> None:
        # Re-insert, so that the order is that of the newest changes.
        self._unread.pop(entry.key, None)
        self._unread[entry.key] = entry
