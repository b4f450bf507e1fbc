"""Answers requests for stored results, and keeps the places of readers that have a name.

A group has READERS names at most. One more takes the place of one that is needed least, see :mod:`reader_names`. The
names of an undeployed group stay: deployed again, its readers go on.

KV bucket hams-positions, key <group>.reader.<name>
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from hams_services.pipeline.event_history import Deployed, StoredHistory
from hams_services.pipeline.reader_names import Named, least_needed
from hams_shared.bus.journal import results_journal
from hams_shared.bus.protocol import Bus, Entry, Journal, KeyValue, Place
from hams_shared.bus.records import opened
from hams_shared.errors import MessageError, RefusedError
from hams_shared.runtime.clock import Clock
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import ReaderRecord, ResultsAnswer, ResultsRequest, StoredResult

log = logging.getLogger("hams.pipeline")

PAGE_BYTES = 262_144
"""A page has no further result once it has so many bytes."""
READERS = 256
"""Most readers of a group that have a name."""
EVERY_S = 1.0
"""Least time between two writes of a reader's place, s."""
ACTIVE_S = 60.0
"""A reader that has asked within so long keeps its name, s. One that waits for results asks every 5 s."""


class ResultHistory(StoredHistory):
    """The stored results of all groups: requests on :func:`subjects.results_after`."""

    kind, failed, subject = "results", ResultsAnswer, subjects.results_after()

    def __init__(self, bus: Bus, deployed: Deployed, keeping: Callable[[], Collection[str]], clock: Clock) -> None:
        """`keeping` returns the groups that keep their results."""
        super().__init__(bus, deployed)
        self._keeping, self._clock = keeping, clock
        self._journal: Journal | None = None
        self._bucket: KeyValue | None = None
        self._places: dict[str, tuple[float, ReaderRecord]] = {}
        """By key of a reader: when its place was written (monotonic, s), and which."""
        self._asked: dict[str, float] = {}
        """By key of a reader, the latest last: when it asked (monotonic, s)."""

    async def _answer(self, group: str, request: bytes) -> ResultsAnswer:
        wanted = codec.decode(ResultsRequest, request)
        if self._journal is None:
            self._journal = await results_journal(self._bus)
        subject = subjects.kept(group, wanted.stream)
        place = Place(wanted.after, wanted.journal, wanted.since_s)
        if wanted.reader:
            place = await self._placed(f"{group}.reader.{wanted.reader}", wanted, place)
        if wanted.end:
            return ResultsAnswer(after=place.sequence, journal=place.journal)
        room = min(PAGE_BYTES, self._bus.max_payload // 4)  # and one part of a large result, of half of it
        found = await self._journal.page(subject, place, limit_bytes=room)
        kept = True
        if not found.entries:
            await self._check(self._journal, subject, group, wanted.stream)
            kept = group in self._keeping() or bool((await self._journal.page(subject, Place(), limit=1)).entries)
        if wanted.reader and wanted.resume and kept and place.age_s is not None:
            begun = found.entries[0].sequence - 1 if found.entries else found.place.sequence
            await self._write(f"{group}.reader.{wanted.reader}", ReaderRecord(after=begun, journal=found.place.journal))
        return ResultsAnswer(
            results=tuple(StoredResult(sequence=one.sequence, result=one.data) for one in found.entries),
            after=found.place.sequence,
            journal=found.place.journal,
            more=found.more,
            kept=kept,
        )

    async def _placed(self, key: str, wanted: ResultsRequest, place: Place) -> Place:
        """Return where a reader reads on; keep its place where it tells one."""
        bucket = await self._opened()
        self._note(key)
        if wanted.resume:
            entry = await bucket.get(key)
            if entry is not None and entry.value:
                record = codec.decode(ReaderRecord, entry.value)
                return Place(record.after, record.journal)
            await self._make_room(key)
            return place
        record = ReaderRecord(after=wanted.dealt, journal=wanted.journal)
        at, before = self._places.get(key, (-EVERY_S, None))
        if record != before and (wanted.end or self._clock.now() - at >= EVERY_S):
            if before is None and await bucket.get(key) is None:
                await self._make_room(key)
            await self._write(key, record)
        return place

    def _note(self, key: str) -> None:
        """A reader has asked."""
        self._asked.pop(key, None)
        self._asked[key] = self._clock.now()
        if len(self._asked) > READERS * 4:
            del self._asked[next(iter(self._asked))]

    async def _make_room(self, new: str) -> None:
        """See that there is room for one more name of the group. Raises RefusedError: all are in use."""
        assert self._journal is not None
        bucket, prefix = await self._opened(), new.rpartition(".")[0] + "."
        found = (await bucket.entries()).items()
        readers = [Named(key, entry.revision, _place_of(entry)) for key, entry in found if key.startswith(prefix)]
        too_many = len(readers) - READERS + 1
        if too_many <= 0:
            return
        oldest = await self._journal.page(subjects.kept(prefix.partition(".")[0]), Place(), limit=1)
        first = oldest.entries[0].sequence if oldest.entries else 0
        since = self._clock.now() - ACTIVE_S
        active = {key for key, at in self._asked.items() if at > since}
        for one in least_needed(readers, active, first, oldest.place.journal):
            try:
                await bucket.delete(one.key, one.revision)
            except RefusedError:
                continue  # it has moved meanwhile
            self._places.pop(one.key, None)
            log.warning("%s gave its name up for %s: %d readers of the group have one", one.key, new, READERS)
            too_many -= 1
            if not too_many:
                return
        raise RefusedError(f"{READERS} readers of the group are in use and have a name", "use one of these names")

    async def _write(self, key: str, record: ReaderRecord) -> None:
        await (await self._opened()).put(key, codec.encode(record))
        if len(self._places) >= READERS * 4:
            self._places.clear()
        self._places[key] = self._clock.now(), record

    async def _opened(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await opened(self._bus.kv, subjects.POSITIONS)
        return self._bucket


def _place_of(entry: Entry) -> ReaderRecord | None:
    try:
        return codec.decode(ReaderRecord, entry.value or b"")
    except MessageError:
        return None
