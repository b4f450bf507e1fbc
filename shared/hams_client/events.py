"""Events of tracks, read from what the broker has stored, so that nothing is missed while an application is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field

from hams_client.stored import Asked, request, stored
from hams_shared.bus.protocol import Bus, JournalEntry, Place
from hams_shared.errors import MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.events import Event as WireEvent
from hams_shared.wire.messages.events import EventsAnswer, EventsRequest

log = logging.getLogger("hams.client")


class Event(WireEvent):
    """A change worth acting on; see docs/messages.md. Two with the same `id` are the same event."""

    sequence: int = Field(description="its place among the stored events; `after` takes it")


async def events(
    bus: Bus, group: str, stream: str | None, since: float | None, after: int | None, live: bool
) -> AsyncGenerator[Event, None]:
    """See :meth:`hams_client.Hams.events`."""

    async def read(place: Place) -> Asked:
        wanted = EventsRequest(stream=stream or "*", after=place.sequence, journal=place.journal, since_s=place.age_s)
        data = await request(bus, subjects.events_after(group), codec.encode(wanted), "pipeline")
        answer = codec.decode(EventsAnswer, data)
        entries = tuple(JournalEntry(one.sequence, "", one.event) for one in answer.events)
        return answer.error, entries, Place(answer.after, answer.journal), answer.more

    async with aclosing(stored(bus, subjects.event(group, stream or "*"), read, since, after, live)) as entries:
        async for entry in entries:
            try:
                event = codec.decode(WireEvent, entry.data)
            except MessageError as error:
                log.warning("stored event %d of %s ignored: %s", entry.sequence, group, error)
                continue
            yield Event(**event.model_dump(), sequence=entry.sequence)
            await asyncio.sleep(0)  # a reader that never waits must not starve others while it catches up
