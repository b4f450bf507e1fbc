"""What happened in the system and why, read from what the broker has stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from pydantic import Field

from hams_client.stored import Asked, request, stored
from hams_shared.bus.protocol import Bus, JournalEntry, Place
from hams_shared.errors import MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.history import HistoryAnswer, HistoryRequest
from hams_shared.wire.messages.history import HistoryEntry as WireEntry

log = logging.getLogger("hams.client")


class HistoryEntry(WireEntry):
    """Something that happened; see docs/observing.md. Two with the same `id` are the same."""

    sequence: int = Field(description="its place among the stored entries; `after` takes it")


async def history(
    bus: Bus,
    group: str | None,
    device: str | None,
    kinds: Collection[str],
    since: float | None,
    after: int | None,
    live: bool,
) -> AsyncGenerator[HistoryEntry, None]:
    """See :meth:`hams_client.Hams.history`."""

    async def read(place: Place) -> Asked:
        wanted = HistoryRequest(after=place.sequence, journal=place.journal, since_s=place.age_s)
        data = await request(bus, subjects.history_after(), codec.encode(wanted), "scheduler")
        answer = codec.decode(HistoryAnswer, data)
        entries = tuple(JournalEntry(one.sequence, "", one.entry) for one in answer.entries)
        return answer.error, entries, Place(answer.after, answer.journal), answer.more

    async with aclosing(stored(bus, subjects.history(), read, since, after, live)) as entries:
        async for entry in entries:
            try:
                one = codec.decode(WireEntry, entry.data)
            except MessageError as error:  # of a newer version
                log.warning("stored entry %d of the history ignored: %s", entry.sequence, error)
                continue
            devices = (None, one.device, *one.devices)
            if group in (None, one.group) and device in devices and (not kinds or one.kind in kinds):
                yield HistoryEntry(**one.model_dump(), sequence=entry.sequence)
            await asyncio.sleep(0)  # a reader that never waits must not starve others while it catches up
