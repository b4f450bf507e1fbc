"""Answers requests for stored results, and keeps the places of readers that have a name.

KV bucket hams-positions, key <group>.reader.<name>
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from hams_services.pipeline.event_history import Deployed, StoredHistory
from hams_shared.bus.journal import results_journal
from hams_shared.bus.protocol import Bus, Journal, KeyValue, Place
from hams_shared.bus.records import opened
from hams_shared.errors import RefusedError
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
        if wanted.resume:
            entry = await bucket.get(key)
            if entry is not None and entry.value:
                record = codec.decode(ReaderRecord, entry.value)
                return Place(record.after, record.journal)
            prefix = key.rsplit(".", 1)[0] + "."
            if sum(name.startswith(prefix) for name in await bucket.entries()) >= READERS:
                raise RefusedError(f"{READERS} readers of the group have a name already", "use one of these names")
            return place
        record = ReaderRecord(after=wanted.dealt, journal=wanted.journal)
        at, before = self._places.get(key, (-EVERY_S, None))
        if record != before and (wanted.end or self._clock.now() - at >= EVERY_S):
            await self._write(key, record)
        return place

    async def _write(self, key: str, record: ReaderRecord) -> None:
        await (await self._opened()).put(key, codec.encode(record))
        if len(self._places) >= READERS * 4:
            self._places.clear()
        self._places[key] = self._clock.now(), record

    async def _opened(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await opened(self._bus.kv, subjects.POSITIONS)
        return self._bucket
