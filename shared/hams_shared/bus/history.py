"""Writing the history: what a part decided goes into the broker's journal, and never holds up the part."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Literal

from hams_shared.bus.journal import history_journal
from hams_shared.bus.protocol import Bus, Journal
from hams_shared.errors import BadInputError, HamsError
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.history import HistoryEntry

log = logging.getLogger(__name__)

LIMIT = 1000
"""Most entries that wait for the broker."""
AGAIN = Backoff(first=0.05, longest=5.0)
"""Pauses after errors of the broker, and while nothing may be written."""


class HistoryOutbox:
    """The entries that one process tells. A task of the caller runs :meth:`run`.

    Each is stored at least once, in order, while `may_write` allows it; one that is sent again has the same id, which
    the journal stores once. While the broker is away they wait; beyond `limit` the oldest are dropped and counted.
    """

    def __init__(
        self,
        bus: Bus,
        by: Literal["scheduler", "optimizer"],
        may_write: Callable[[], bool] = lambda: True,
        *,
        limit: int = LIMIT,
    ) -> None:
        self._bus = bus
        self._subject = subjects.history(by)
        self._may_write = may_write
        self._limit = limit
        self._waiting: deque[HistoryEntry] = deque()
        self._journal: Journal | None = None
        self._news = asyncio.Event()
        self.dropped = 0
        """Entries that gave way because too many waited; they are lost."""

    @property
    def waiting(self) -> int:
        """Entries that wait for the broker."""
        return len(self._waiting)

    def put(self, entry: HistoryEntry) -> None:
        """Store `entry` after those put before; returns at once."""
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8 …
                log.error("too many entries of the history wait for the broker: %d are lost", self.dropped)
        self._waiting.append(entry)
        self._news.set()

    def clear(self) -> None:
        """Forget the entries that wait."""
        self._waiting.clear()

    async def run(self) -> None:
        """Store entries until cancelled."""
        tries = 0
        while True:
            self._news.clear()
            if not self._waiting:
                await self._news.wait()
            elif await self._store(self._waiting[0]):
                tries = 0
            else:
                tries += 1
                await asyncio.sleep(AGAIN.pause(tries))

    async def _store(self, entry: HistoryEntry) -> bool:
        """Store one entry; return whether it is dealt with."""
        if not self._may_write():
            return False
        try:
            if self._journal is None:
                self._journal = await history_journal(self._bus)
            await self._journal.publish(self._subject, codec.encode(entry), entry.id)
        except BadInputError as error:
            log.error("an entry of the history is lost: %s", error)
        except HamsError as error:
            log.info("%d entries of the history wait: %s", self.waiting, error)
            return False
        if self._waiting and self._waiting[0] is entry:  # else it gave way meanwhile
            self._waiting.popleft()
        return True
