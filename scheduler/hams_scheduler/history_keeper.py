"""The history's shell: what is told goes into the journal; what the journal holds goes to the core and to readers.

Every scheduler answers requests for stored entries, whether it leads or stands by: only parts may read JetStream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from hams_scheduler.events import Event, HistoryRead, HistoryTold
from hams_scheduler.leader.lease import Lease
from hams_shared.bus.history import HistoryOutbox
from hams_shared.bus.journal import history_journal
from hams_shared.bus.protocol import Bus, Journal, Message, Place
from hams_shared.errors import HamsError, MessageError, OverloadedError
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.history import HistoryAnswer, HistoryEntry, HistoryRequest, StoredEntry

log = logging.getLogger("hams.scheduler")

READ = 512
"""How many of the newest entries a scheduler reads to know what was told."""
READ_S = 10.0
"""How long a journal may not be readable until entries are told without it, s."""
UNDER_WAY = 64
"""Most requests under way at once; more are refused."""
AGAIN = Backoff(first=0.1, longest=1.0)


class HistoryKeeper:
    """Tells, reads and answers for one scheduler; `do` gives the core an event."""

    def __init__(self, bus: Bus, lease: Lease, do: Callable[[Event], None], clock: Clock = SYSTEM_CLOCK) -> None:
        self._bus = bus
        self._do = do
        self._outbox = HistoryOutbox(bus, "scheduler", lambda: lease.writes_in(clock.now()) > 0)
        self._journal: Journal | None = None
        self._read_wanted = asyncio.Event()
        self._read_wanted.set()
        self._heard: list[HistoryEntry] | None = None
        """While the journal is read: what is told meanwhile, 2 × READ at most."""
        self._under_way = 0

    def tell(self, entry: HistoryEntry) -> None:
        """Log an entry and have it stored; returns at once."""
        about = {"device": entry.device or None, "group": entry.group or None, "epoch": entry.epoch or None}
        log.info("%s", entry.sentence, extra=about)
        self._outbox.put(entry.model_copy(update={"at": time.time()}))

    def read_again(self) -> None:
        """This scheduler follows: drop what was not stored, and read what was."""
        self._outbox.clear()
        self._read_wanted.set()

    async def run(self) -> None:
        """Store, read and follow until cancelled."""
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._outbox.run())
            await self._bus.subscribe(subjects.history("scheduler"), self._on_entry, limit=2 * READ)
            while True:
                await self._read_wanted.wait()
                self._read_wanted.clear()
                await self._read()

    async def _on_entry(self, message: Message) -> None:
        entry = codec.decode(HistoryEntry, message.data)
        if self._heard is not None and len(self._heard) < 2 * READ:
            self._heard.append(entry)
        self._do(HistoryTold(entry))

    async def _read(self) -> None:
        """Give the core what the journal holds; without a journal, after READ_S, nothing."""
        heard: list[HistoryEntry] = []
        self._heard = heard
        tries, found = 0, HistoryRead((), complete=False)
        try:
            async with asyncio.timeout(READ_S):
                while True:
                    try:
                        found = await self._newest()
                        break
                    except HamsError as error:
                        tries += 1
                        log.log(logging.INFO if tries == 1 else logging.DEBUG, "the history: %s", error)
                    await asyncio.sleep(AGAIN.pause(tries))
        except TimeoutError:
            log.warning("the history cannot be read: what was told before is not known")
        finally:
            self._heard = None
        known = {entry.id for entry in found.entries}
        later = [entry for entry in heard if entry.id not in known]
        self._do(HistoryRead((*found.entries, *later), found.complete))

    async def _newest(self) -> HistoryRead:
        journal, subject = await self._opened(), subjects.history()
        end = (await journal.page(subject, Place(age_s=0))).place
        place, more = Place(max(0, end.sequence - READ), end.journal), True
        entries: list[HistoryEntry] = []
        complete = end.sequence == 0
        while more:
            page = await journal.page(subject, place)
            place, more = page.place, page.more
            for stored in page.entries:
                complete = complete or stored.sequence == 1
                try:
                    entries.append(codec.decode(HistoryEntry, stored.data))
                except MessageError as error:
                    log.warning("stored entry %d of the history ignored: %s", stored.sequence, error)
        return HistoryRead(tuple(entries), complete)

    async def answer(self, message: Message) -> None:
        """Answer one request for stored entries; an error is an answer, too."""
        self._under_way += 1
        try:
            if self._under_way > UNDER_WAY:
                raise OverloadedError(f"{UNDER_WAY} requests for the history are under way already", "try again")
            answer = await self._page(codec.decode(HistoryRequest, message.data))
        except HamsError as error:
            answer = HistoryAnswer(error=WireError(**error.to_wire()))
        finally:
            self._under_way -= 1
        await message.respond(codec.encode(answer))

    async def _page(self, request: HistoryRequest) -> HistoryAnswer:
        place = Place(request.after, request.journal, request.since_s)
        found = await (await self._opened()).page(subjects.history(), place)
        return HistoryAnswer(
            entries=tuple(StoredEntry(sequence=one.sequence, entry=one.data) for one in found.entries),
            after=found.place.sequence,
            journal=found.place.journal,
            more=found.more,
        )

    async def _opened(self) -> Journal:
        if self._journal is None:
            self._journal = await history_journal(self._bus)
        return self._journal
