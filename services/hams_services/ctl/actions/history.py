"""What `hams-ctl history` does."""

from __future__ import annotations

import textwrap
from contextlib import aclosing
from datetime import datetime

from hams_client import Hams
from hams_client.history import HistoryEntry
from hams_services.ctl.actions.events import SINCE_S
from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.options import duration_s, history_kinds_of
from hams_shared.bus.protocol import Bus

TIME, KIND = 14, 16
"""Widths of the columns of time and kind, characters."""
GAP = "  "


def history(
    group: str | None,
    device: str | None,
    kind: str | None,
    since: str | None,
    follow: bool,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Print stored entries, and if `follow` also new ones."""
    seconds = duration_s(since) if since is not None else 0.0 if follow else SINCE_S
    kinds = history_kinds_of(kind)

    async def job(bus: Bus) -> None:
        found = Hams(bus).history(group=group, device=device, kinds=kinds, since=seconds, follow=follow)
        if follow and err.is_terminal and not json:
            err.print("waiting for what happens …", style="dim")
        printer = Printer(json, follow=follow)
        async with aclosing(found):
            async for entry in found:
                printer.take(entry)
        printer.end()
        if not printer.seen and not json:
            err.print(f"nothing of that kind happened in the last {since or '1h'}; for older entries: --since 7d")

    with_bus(job, nats, debug, stopped_is_fine=follow)


class Printer:
    """Prints entries; equal ones in a row become one line with their number, unless they are followed as they come."""

    def __init__(self, json: bool, *, follow: bool) -> None:
        self._json = json
        self._follow = follow
        self._last: HistoryEntry | None = None
        self._times = 0
        self.seen = 0

    def take(self, entry: HistoryEntry) -> None:
        """Take the next entry."""
        self.seen += 1
        if self._json:
            print_json(entry)
        elif self._follow:
            self._print(entry, 1)
        elif self._last is not None and same(self._last, entry):
            self._last, self._times = entry, self._times + 1
        else:
            self.end()
            self._last, self._times = entry, 1

    def end(self) -> None:
        """Print the entry that waits for its equals."""
        if self._last is not None:
            self._print(self._last, self._times)
            self._last = None

    def _print(self, entry: HistoryEntry, times: int) -> None:
        for line in lines(entry, times, out.width):
            out.print(line, soft_wrap=True)


def same(one: HistoryEntry, other: HistoryEntry) -> bool:
    """Whether two entries are equal but for their time and id."""
    return (one.kind, one.group, one.device, one.sentence) == (other.kind, other.group, other.device, other.sentence)


def lines(entry: HistoryEntry, times: int, width: int) -> list[str]:
    """Return an entry as lines of `width` characters; its time is that of this host's time zone."""
    head = f"{datetime.fromtimestamp(entry.at).astimezone():%m-%d %H:%M:%S}".ljust(TIME) + GAP
    head += entry.kind.ljust(KIND) + GAP
    text = entry.sentence + (f" — {times} times" if times > 1 else "")
    left = max(24, width - len(head))
    parts = textwrap.wrap(text, left, break_on_hyphens=False) or [""]
    return [head + parts[0], *(" " * len(head) + part for part in parts[1:])]
