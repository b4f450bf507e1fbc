"""Events that wait to be sent, in a file: SQLite keeps what was taken over a kill, and what was sent is gone from it.

Events and the place where HAMS's journal is read on are one transaction, so none is lost or left out between the two.
When the queue is full, no more are taken: then the journal keeps what follows, for as long as it keeps events.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hams_shared.errors import HamsError, NoSpaceError, SourceError

MAX_EVENTS = 100_000
MAX_BYTES = 256 << 20
"""Of the events that wait; the file is somewhat larger."""
LOCKED_S = 2.0
"""How long another program may hold the file, s."""
VERSION = 1
"""Of the file's tables; SQLite keeps it as `user_version`."""

_TABLES = """
CREATE TABLE IF NOT EXISTS events (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Waiting:
    """The oldest event that waits."""

    place: int
    id: str
    """Of the event."""
    body: bytes


class EventQueue:
    """The queue in the file `path`, or in memory if None: then a restart begins with new events.

    Raises:
        SourceError: the file cannot be used, is something else, or another sink uses it.
        NoSpaceError: the disk is full.
    """

    def __init__(self, path: Path | None, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max_events, self._max_bytes = path, max_events, max_bytes
        with self._named():
            if path is not None:
                with suppress(FileExistsError):  # events tell who was where; SQLite makes its log as it finds the file
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._file = sqlite3.connect(path or ":memory:", timeout=LOCKED_S, isolation_level=None)
        try:
            with self._named():
                self._open()
        except HamsError:
            self._file.close()
            raise

    def _open(self) -> None:
        run = self._file.execute
        run("PRAGMA locking_mode = EXCLUSIVE")  # a second sink with the same file would send each event, too
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        version = run("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise SourceError(f"{self._path} is a queue of another version of HAMS", "delete it to begin anew")
        run("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _TABLES.split(";")):
            run(statement)
        run(f"PRAGMA user_version = {VERSION}")
        run("COMMIT")
        count, size = run("SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM events").fetchone()
        self._count, self._bytes = int(count), int(size)
        if self._path is not None:
            for one in (self._path, Path(f"{self._path.resolve()}-wal")):  # earlier versions left them to all
                with suppress(FileNotFoundError):
                    one.chmod(0o600)

    @property
    def after(self) -> int | None:
        """Sequence of the last event that was taken or passed by; None: there was none yet."""
        return self._number("after")

    @property
    def refused(self) -> int:
        """Events that the receiver refused for good, since the file was made."""
        return self._number("refused") or 0

    @property
    def full(self) -> bool:
        """Whether no event is taken now."""
        return self._count >= self._max_events or self._bytes >= self._max_bytes

    def __len__(self) -> int:
        return self._count

    def put(self, sequence: int, id: str, body: bytes) -> None:
        """Take the event with this `sequence` in the journal. Only one larger than the queue exceeds its bound."""
        assert not self.full
        with self._transaction():
            self._file.execute("INSERT INTO events (id, body) VALUES (?, ?)", (id, body))
            self._set("after", sequence)
        self._count += 1
        self._bytes += len(body)

    def pass_by(self, sequence: int) -> None:
        """An event came that is not to be sent."""
        with self._transaction():
            self._set("after", sequence)

    def first(self) -> Waiting | None:
        """Return the oldest event that waits."""
        with self._named():
            row = self._file.execute("SELECT place, id, body FROM events ORDER BY place LIMIT 1").fetchone()
        return None if row is None else Waiting(*row)

    def done(self, one: Waiting, *, refused: bool = False) -> None:
        """An event was sent, or `refused`."""
        with self._transaction():
            self._file.execute("DELETE FROM events WHERE place = ?", (one.place,))
            if refused:
                self._set("refused", self.refused + 1)
        self._count -= 1
        self._bytes -= len(one.body)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _number(self, name: str) -> int | None:
        with self._named():
            row = self._file.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _set(self, name: str, value: int) -> None:
        self._file.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._named():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn SQLite's errors into named ones."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explained(error) from None
        except OSError as error:
            raise SourceError(f"cannot use the queue {self._path}: {error.strerror}") from None

    def _explained(self, error: sqlite3.Error) -> HamsError:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return NoSpaceError(f"the disk is full: {self._path}", "make room")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return SourceError(f"another program uses the queue {self._path}", "one `sink webhook` has one queue")
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or isinstance(error, sqlite3.DataError):
            return SourceError(f"{self._path} is no queue, or damaged: {error}", "delete it to begin with new events")
        return SourceError(f"cannot use the queue {self._path}: {error}")
