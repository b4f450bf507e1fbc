"""How long the files of a sink are kept: what its list names, and its lines, go when they are too old."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hams_services.sinks.disk import write
from hams_shared.errors import SourceError
from hams_shared.runtime.files import replaced

EVERY_S = 3600.0
"""How often a sink looks for what is too old, s."""
NAMES = ("file", "crop")
"""Keys of a line that name a file beside the list."""


class KeptList:
    """A list of JSON lines beside the files that it names. Any thread.

    Only files that the list names are deleted, so that others in the folder stay. A line is as old as its newest file:
    a sink may play what was recorded long ago. One whose files are gone goes, too; one that never had any stays until
    all that came before it have gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Append lines. Raises SourceError."""
        with self._lock:
            write(self.path, lines, "ab")

    def forget(self, before: float) -> int:
        """Delete the files written before a Unix time, with their lines; return how many files. Raises SourceError.

        A file that another line keeps stays. Lines that cannot be read stay.
        """
        with self._lock:
            try:
                return self._forget(before)
            except OSError as error:
                raise SourceError(f"{self.path}: what is too old cannot be deleted: {error.strerror}") from None

    def _forget(self, before: float) -> int:
        if not self.path.exists():
            return 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept: list[bytes] = []
        old, used = set[Path](), set[Path]()
        for line in lines:
            files = self._files(line)
            if files is None or (not files and kept) or any(_written(one) >= before for one in files):
                used |= files or set()
                kept.append(line)
            else:
                old |= files
        if len(kept) < len(lines):
            with replaced(self.path, self.path.stat().st_mode & 0o777) as file:
                file.writelines(kept)
        there = [one for one in old - used if one.exists()]
        for one in there:
            one.unlink(missing_ok=True)
        return len(there)

    def _files(self, line: bytes) -> set[Path] | None:
        """Return the files that a line names, which lie beside the list; None: it cannot be read."""
        try:
            entry = json.loads(line)
            names = [str(entry[key]) for key in NAMES if entry.get(key)]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return {self.path.parent / one for one in names if Path(one).name == one}


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


async def keep_clean(lists: Callable[[], list[KeptList]], keep_s: float | None) -> None:
    """Delete what is older than `keep_s` now and once an hour, until cancelled; None: nothing. Raises SourceError."""
    while keep_s is not None:
        for one in lists():
            await asyncio.to_thread(one.forget, time.time() - keep_s)
        await asyncio.sleep(EVERY_S)
