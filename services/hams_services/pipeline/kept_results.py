"""The way of a stream's results out of the pipeline where the group keeps them: each once into the broker's journal.

Each is stored, in frame order, before the next one of its stream is sent, so that the order holds over any loss. One
that is sent again has the same id, which the journal remembers for two minutes. An acknowledgement may be lost for
longer: so after an error the newest stored message is read first, and what is stored is not sent again. The broker
sends what it has stored to the subscribers of results. While the broker is away, results wait. Those of a lossless
stream hold its window, so that its source waits, too. Those of a live one are bounded, and the oldest give way.

subjects out: hams.v1.kept.<group>.<stream>
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable

from hams_services.pipeline.backlog_sender import send
from hams_services.pipeline.event_backlog import Backlog, Waiting
from hams_services.pipeline.kept_sizes import KeptSizes
from hams_services.pipeline.result_ids import message_ids, result_id, stored_frame, stored_of
from hams_shared.bus.chunks import MAX_AGE_S, split
from hams_shared.bus.journal import results_journal
from hams_shared.bus.protocol import Bus, Journal, KeyValue
from hams_shared.bus.records import opened
from hams_shared.errors import BadInputError, HamsError, MessageError
from hams_shared.group.results_spec import ResultsSpec
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import KeptSizes as KeptSizesRecord

log = logging.getLogger("hams.pipeline")

LIVE_RESULTS, LIVE_BYTES = 1024, 32 * 1024 * 1024
"""Most results of one live stream that wait for the broker."""
AGAIN = Backoff(first=0.05, longest=1.0)
"""Pauses after errors of the broker."""
TOGETHER_S = MAX_AGE_S / 3
"""Readers give up the first parts of a result after MAX_AGE_S. So one that is not stored whole after so long is stored
from its beginning again, s."""


class KeptGroup:
    """What the streams of one group share: the journal, and the count of its bytes."""

    def __init__(self, bus: Bus, group: str, spec: ResultsSpec) -> None:
        self.bus, self.group, self.spec = bus, group, spec
        self._sizes = KeptSizes(spec.max_mb * 1_000_000)
        self._loaded = False
        self._journal: Journal | None = None
        self._bucket: KeyValue | None = None
        self._trimming = asyncio.Lock()

    def change(self, spec: ResultsSpec) -> None:
        """Keep results by `spec` from now on."""
        self.spec = spec
        self._sizes.most = spec.max_mb * 1_000_000

    async def journal(self) -> Journal:
        """Return the journal of results, opened. Raises BrokerError, DeadlineError."""
        if self._journal is None:
            self._journal = await results_journal(self.bus)
        return self._journal

    async def stored(self, sequence: int, size: int) -> None:
        """Count what was stored; discard the oldest where it is too much. Errors of the broker are logged."""
        if not self._sizes.stored(sequence, size) or self._trimming.locked():
            return
        async with self._trimming:
            try:
                await self._load()
                before = self._sizes.discard()
                if before:
                    await (await self.journal()).discard(subjects.kept(self.group), before)
                assert self._bucket is not None
                record = KeptSizesRecord(pieces=tuple(self._sizes.pieces))
                await self._bucket.put(f"{self.group}.kept", codec.encode(record))
            except HamsError as error:
                log.warning("group %s: size of the kept results: %s", self.group, error)

    async def _load(self) -> None:
        if self._bucket is None:
            self._bucket = await opened(self.bus.kv, subjects.POSITIONS)
        if not self._loaded:
            entry = await self._bucket.get(f"{self.group}.kept")
            if entry is not None and entry.value:
                try:
                    self._sizes.load(codec.decode(KeptSizesRecord, entry.value).pieces)
                except MessageError as error:
                    log.error("group %s: size of the kept results is not known: %s", self.group, error)
            self._loaded = True


class KeptResults:
    """The results of one stream. A task of the caller runs :meth:`run`."""

    def __init__(
        self, kept: KeptGroup, stream: str, *, on_stored: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """`on_stored` is called for each result that is stored, `on_lost` for each that gave way or is refused."""
        self._kept, self._stream = kept, stream
        self._name = f"{kept.group}/{stream}"
        self._backlog = Backlog(LIVE_RESULTS, LIVE_BYTES)
        self._on_stored, self._on_lost = on_stored, on_lost
        self._subject = subjects.kept(kept.group, stream)
        self._news, self._done = asyncio.Event(), asyncio.Event()
        self._done.set()
        self._life = secrets.token_hex(8)
        self._unsure = False
        """Whether the last message may be stored without our knowing it."""
        self._counted = ""
        """Id of the newest message that was counted as stored."""
        self._begun, self._makings = 0.0, 0
        """When the first part of the result was sent (loop time, s), and how often one was begun anew."""
        self.complaint = ""
        """Why results wait; empty: none does for long."""

    def change(self, *, lossless: bool) -> None:
        """Bound what waits from now on as that of such a stream; a lossless one bounds it itself, by its window."""
        self._backlog.limit, self._backlog.limit_bytes = (1 << 62, 1 << 62) if lossless else (LIVE_RESULTS, LIVE_BYTES)

    @property
    def waiting(self) -> int:
        """Results that wait for the broker."""
        return len(self._backlog)

    def put(self, series: str, frame: int, data: bytes) -> None:
        """Store a result after those put before; returns at once."""
        before = self._backlog.dropped.total()
        self._backlog.add(result_id(self._kept.group, self._stream, series, frame), "result", self._subject, data)
        for _ in range(self._backlog.dropped.total() - before):
            self._on_lost()
        self._done.clear()
        self._news.set()

    async def last(self, series: str) -> int:
        """Return the newest frame of `series` whose result is stored, -1: none. Raises BrokerError, DeadlineError."""
        entry = await (await self._kept.journal()).last(self._subject)
        return -1 if entry is None else stored_frame(entry.id, series)

    async def run(self) -> None:
        """Store results until cancelled."""
        idle = self._done.set
        await send(self._backlog, self._news, self._store, AGAIN, idle=idle, settled=self._settled, waits=self._waits)

    def _settled(self, result: Waiting, lost: BadInputError | None) -> None:
        if lost is not None:
            log.error("stream %s: result %s is lost: %s", self._name, result.id, lost)
            self._on_lost()
            return
        self.complaint = ""
        self._on_stored()

    def _waits(self, error: HamsError, tell: bool) -> None:
        self.complaint = f"{self.waiting} results wait for the broker: {error}"
        if tell:
            log.warning("stream %s: %s", self._name, self.complaint)

    async def _store(self, result: Waiting) -> None:
        journal, keep, now = await self._kept.journal(), self._kept.spec.keep, asyncio.get_running_loop().time
        ids, parts = self._messages(result)
        done = await self._stored_already(journal, ids, parts) if self._unsure else 0
        if 0 < done < len(parts) and now() - self._begun > TOGETHER_S:
            self._makings += 1
            (ids, parts), done = self._messages(result), 0
        if not done:
            self._begun = now()
        for id, part in zip(ids[done:], parts[done:], strict=True):
            self._unsure = True
            sequence = await journal.publish(result.subject, part, id, keep)
            self._unsure = False
            await self._count(id, sequence, len(part))

    def _messages(self, result: Waiting) -> tuple[list[str], list[bytes]]:
        """Return the ids and the data of the messages that a result is stored as."""
        most = self._kept.bus.max_payload // 2  # a page of stored results holds one part and others
        making = hashlib.sha256(f"{self._life}.{self._makings}.{result.id}".encode()).digest()[:16]
        parts = split(result.data, most, making)
        return message_ids(result.id, making.hex()[:8], len(parts)), parts

    async def _stored_already(self, journal: Journal, ids: list[str], parts: list[bytes]) -> int:
        """Return how many messages of a result are stored, whatever became of their acknowledgements."""
        newest = await journal.last(self._subject)
        done = 0 if newest is None else stored_of(ids, newest.id)
        if newest is not None and done and newest.id != self._counted:
            await self._count(newest.id, newest.sequence, len(parts[done - 1]))
        self._unsure = False
        return done

    async def _count(self, id: str, sequence: int, size: int) -> None:
        self._counted = id
        await self._kept.stored(sequence, size)

    async def flush(self, deadline: float) -> None:
        """Wait until everything put so far is stored, for `deadline` s; what is not then is lost, and logged."""
        try:
            async with asyncio.timeout(deadline):
                await self._done.wait()
        except TimeoutError:
            log.error("stream %s: %d results are not stored, %g s passed", self._name, self.waiting, deadline)
