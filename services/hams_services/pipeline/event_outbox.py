"""The way of events out of the pipeline: each at least once into the broker's journal, in order, with its own id.

Beside the events it keeps a record of each stream's open tracks in the broker, so that a pipeline that starts again can
end them. The record may be some seconds old when a pipeline is killed; therefore :meth:`EventOutbox.recover` also
returns the events that were published after it was made.

subjects out: hams.v1.event.<group>.<stream>; KV bucket hams-tracks, key <group>.<stream>
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from hams_services.pipeline.backlog_sender import send
from hams_services.pipeline.event_backlog import Backlog, Waiting
from hams_shared.bus.journal import events_journal, follow
from hams_shared.bus.protocol import Bus, Journal, KeyValue, Place
from hams_shared.bus.records import opened
from hams_shared.errors import BadInputError, BrokerError, CredentialsError, DeadlineError, HamsError, MessageError
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.events import Event, TracksRecord

log = logging.getLogger("hams.pipeline")

MAX_EVENTS = 4096
"""Most events of a group that wait for the broker."""
MAX_BYTES = 32 * 1024 * 1024
"""Most bytes of them."""
MAX_EVENT_BYTES = 512 * 1024
"""A larger event is published without its crop, and so is one of more than half of what the broker takes."""
KEEP_S = 1.0
"""Least time between two writes of a stream's record, s."""
RECOVER_S = 60.0
"""Deadline of one try to read what an earlier life left, s."""
AGAIN = Backoff(first=0.05, longest=2.0)
"""Pauses after errors of the broker."""


@dataclass(frozen=True)
class Recovered:
    """What an earlier life of the pipeline left of one stream."""

    tracks: bytes
    """The record that was given to :meth:`EventOutbox.keep` last."""
    events: tuple[Event, ...]
    """Those published after that record was made, in order."""


@dataclass
class _Kept:
    """A record on its way into the bucket; None: its key is to be deleted."""

    tracks: bytes | None
    put: int
    """Events put before: the record is written when all of them are stored."""
    after: int
    """Sequence of the last of them."""


class EventOutbox:
    """The events of one group. A task of the caller runs :meth:`run`."""

    def __init__(self, bus: Bus, group: str, *, limit: int = MAX_EVENTS, limit_bytes: int = MAX_BYTES) -> None:
        self._bus = bus
        self._group = group
        self._backlog = Backlog(limit, limit_bytes)
        self._journal: Journal | None = None
        self._bucket: KeyValue | None = None
        self._place = Place()
        """Of the last event published."""
        self._pending: dict[str, _Kept] = {}
        """By stream: the record that is written next. One of later events does not replace it: with a busy queue it
        would never be written."""
        self._newest: dict[str, _Kept] = {}
        """By stream: the record after that one."""
        self._events_news, self._records_news = asyncio.Event(), asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()
        self._hurry = asyncio.Event()
        """Set while someone waits for everything: records are written without a pause."""
        self._free = asyncio.Event()
        """Cleared while no record may be written."""
        self._free.set()
        self.published = 0
        """Events that the broker has stored."""
        self.refused: Counter[str] = Counter()
        """Events that the broker does not take at all, by kind; they are lost."""
        self.without_crop = 0
        """Events published without their crop, because they were too large."""

    @property
    def waiting(self) -> int:
        """Events that wait for the broker."""
        return len(self._backlog)

    @property
    def dropped(self) -> Counter[str]:
        """Events that gave way because too many waited for the broker, by kind; they are lost."""
        return self._backlog.dropped

    def put(self, events: Iterable[Event]) -> None:
        """Publish `events` after those put before; returns at once.

        They wait for the broker as long as it is away. Beyond the bounds, `update` events give way first, then the
        oldest; :attr:`dropped` counts them.
        """
        before = self.dropped.total()
        for event in events:
            self._backlog.add(event.id, event.kind, subjects.event(self._group, event.stream), self._encoded(event))
        if self.dropped.total() > before == 0:
            log.error("group %s: too many events wait for the broker: the oldest are lost", self._group)
        if self.waiting:
            self._done.clear()
            self._events_news.set()

    def _encoded(self, event: Event) -> bytes:
        data = codec.encode(event, without=() if event.traceparent else ("traceparent",))
        if event.crop is not None and len(data) > min(MAX_EVENT_BYTES, self._bus.max_payload // 2):
            self.without_crop += 1
            return self._encoded(event.model_copy(update={"crop": None}))
        return data

    def keep(self, stream: str, tracks: bytes | None) -> None:
        """Keep `tracks`, the record of a stream's open tracks after the events put so far; None: forget the stream.

        It is written once these events are stored, at most once in KEEP_S. Call it at the start of a stream too, with
        no tracks: then even what is killed in its first second is recovered.
        """
        kept = _Kept(tracks, self._backlog.put, self._place.sequence)
        before = self._pending.get(stream)
        replaces = before is None or before.put == kept.put or not self._free.is_set()
        (self._pending if replaces else self._newest)[stream] = kept
        self._done.clear()
        self._records_news.set()

    def hold(self) -> None:
        """Write no record until :meth:`release`: those of an earlier life are still to be read.

        Call it before :meth:`run`. Of each stream only the newest record waits.
        """
        self._free.clear()

    def release(self) -> None:
        """Write records from now on."""
        self._free.set()

    async def recover(self) -> dict[str, Recovered]:
        """Return by stream what an earlier life left; while the broker does not give it, try again and again.

        Until then :meth:`hold`, or call it before :meth:`run`. Raises CredentialsError.
        """
        tries = 0
        while True:
            try:
                async with asyncio.timeout(RECOVER_S):
                    return await self._recovered()
            except CredentialsError:
                raise
            except (BrokerError, DeadlineError, TimeoutError) as error:
                tries += 1
                if tries & (tries - 1) == 0:
                    text = "group %s: tracks that were open before are not read yet: %s (%d tries)"
                    log.warning(text, self._group, error or f"{RECOVER_S:g} s passed", tries)
            await asyncio.sleep(AGAIN.pause(tries))

    async def _recovered(self) -> dict[str, Recovered]:
        bucket = await self._opened_bucket()
        journal = await self._opened_journal()
        self._place = (await journal.page(subjects.event(self._group), Place(age_s=0))).place
        found: dict[str, Recovered] = {}
        for key, entry in (await bucket.entries()).items():
            group, _, stream = key.partition(".")
            if group == self._group and entry.value is not None:
                try:
                    kept = codec.decode(TracksRecord, entry.value)
                except MessageError as error:
                    log.error("record of the tracks of %s ignored: %s", key, error)
                    continue
                found[stream] = Recovered(kept.tracks, await self._since(journal, stream, kept))
        return found

    async def _since(self, journal: Journal, stream: str, kept: TracksRecord) -> tuple[Event, ...]:
        subject = subjects.event(self._group, stream)
        place = Place(kept.after, kept.journal)
        events: list[Event] = []
        async for entry in follow(self._bus, subject, lambda at: journal.page(subject, at), place, live=False):
            try:
                events.append(codec.decode(Event, entry.data))
            except MessageError as error:
                log.warning("stored event %d of %s ignored: %s", entry.sequence, subject, error)
        return tuple(events)

    async def flush(self, deadline: float) -> bool:
        """Wait until everything put and kept so far is stored, for `deadline` s; return whether it is.

        :meth:`run` must run meanwhile.
        """
        self._hurry.set()
        try:
            async with asyncio.timeout(deadline):
                await self._done.wait()
        except TimeoutError:
            log.error("group %s: %d events are not stored, %g s passed", self._group, self.waiting, deadline)
            return False
        finally:
            self._hurry.clear()
        return True

    async def run(self) -> None:
        """Publish events and write records until cancelled."""
        async with asyncio.TaskGroup() as owner:
            owner.create_task(
                send(
                    self._backlog,
                    self._events_news,
                    self._store,
                    AGAIN,
                    idle=self._settle,
                    settled=self._sent,
                    waits=self._waits,
                )
            )
            owner.create_task(self._write_records())

    def _sent(self, event: Waiting, lost: BadInputError | None) -> None:
        if lost is not None:
            log.error("group %s: event %s is lost: %s", self._group, event.id, lost)
            self.refused[event.kind] += 1
        self._records_news.set()

    def _waits(self, error: HamsError, tell: bool) -> None:
        if tell:
            log.warning("group %s: %d events wait: %s", self._group, self.waiting, error)

    async def _store(self, event: Waiting) -> None:
        journal = await self._opened_journal()
        sequence = await journal.publish(event.subject, event.data, event.id)
        self.published += 1
        self._place = Place(sequence, self._place.journal)
        for kept in (*self._pending.values(), *self._newest.values()):
            if event.number <= kept.put:
                kept.after = sequence

    async def _write_records(self) -> None:
        failures = 0
        while True:
            await self._free.wait()
            self._records_news.clear()
            wrote = False
            for stream, kept in list(self._pending.items()):
                if self._backlog.settled(kept.put):
                    try:
                        await self._write(stream, kept)
                    except HamsError as error:
                        failures += 1
                        if failures & (failures - 1) == 0:
                            log.warning("group %s: record of tracks not written: %s", self._group, error)
                        break
                    failures, wrote = 0, True
                    self._written(stream, kept)
            self._settle()
            if failures:
                await asyncio.sleep(AGAIN.pause(failures))
            elif wrote:
                with suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_S):
                        await self._hurry.wait()
            else:
                await self._records_news.wait()

    def _written(self, stream: str, kept: _Kept) -> None:
        if self._pending[stream] is kept:  # else it was replaced meanwhile
            del self._pending[stream]
            if stream in self._newest:
                self._pending[stream] = self._newest.pop(stream)

    async def _write(self, stream: str, kept: _Kept) -> None:
        bucket, key = await self._opened_bucket(), f"{self._group}.{stream}"
        if kept.tracks is None:
            await bucket.delete(key)
        else:
            record = TracksRecord(tracks=kept.tracks, after=kept.after, journal=self._place.journal)
            await bucket.put(key, codec.encode(record))

    def _settle(self) -> None:
        if not self.waiting and not self._pending:
            self._done.set()

    async def _opened_journal(self) -> Journal:
        if self._journal is None:
            self._journal = await events_journal(self._bus)
        return self._journal

    async def _opened_bucket(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await opened(self._bus.kv, subjects.TRACKS)
        return self._bucket
