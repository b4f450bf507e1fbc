"""Events of tracks, read from what the broker has stored, so that nothing is missed while an application is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field

from hams_shared.bus.ask import ask
from hams_shared.bus.journal import follow
from hams_shared.bus.protocol import Bus, JournalEntry, Page, Place
from hams_shared.errors import BadInputError, MessageError, from_wire
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.events import Event as WireEvent
from hams_shared.wire.messages.events import EventsAnswer, EventsRequest

log = logging.getLogger("hams.client")

ASK_S = 10.0
"""Deadline of one request, s."""
PATIENCE_S = 6.0
"""How long to wait for a pipeline that is absent, s: a killed one is back by then."""


class Event(WireEvent):
    """A change worth acting on; see docs/messages.md. Two with the same `id` are the same event."""

    sequence: int = Field(description="its place among the stored events; `after` takes it")


async def events(
    bus: Bus, group: str, stream: str | None, since: float | None, after: int | None, live: bool
) -> AsyncGenerator[Event, None]:
    """See :meth:`hams_client.Hams.events`."""
    if since is not None and after is not None:
        raise BadInputError("give `since` or `after`, not both")
    if (after is not None and after < 0) or (since is not None and not since >= 0):
        raise BadInputError("`since` and `after` are 0 or more")
    request = subjects.events_after(group)

    async def read(place: Place) -> Page:
        data = codec.encode(
            EventsRequest(stream=stream or "*", after=place.sequence, journal=place.journal, since_s=place.age_s)
        )
        answer = codec.decode(
            EventsAnswer, await ask(bus, request, data, "pipeline", timeout=ASK_S, patience=PATIENCE_S)
        )
        if answer.error is not None:
            raise from_wire(answer.error.model_dump())
        entries = tuple(JournalEntry(one.sequence, "", one.event) for one in answer.events)
        return Page(entries, Place(answer.after, answer.journal), answer.more)

    place = Place(after) if after is not None else Place(age_s=since if since is not None else 0.0)
    async with aclosing(follow(bus, subjects.event(group, stream or "*"), read, place, live=live)) as entries:
        async for entry in entries:
            try:
                event = codec.decode(WireEvent, entry.data)
            except MessageError as error:
                log.warning("stored event %d of %s ignored: %s", entry.sequence, group, error)
                continue
            yield Event(**event.model_dump(), sequence=entry.sequence)
            await asyncio.sleep(0)  # a reader that never waits must not starve others while it catches up
