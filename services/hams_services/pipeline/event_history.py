"""Answers requests for stored events. Applications read them here, since only parts may send requests to JetStream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from hams_shared.bus.journal import events_journal
from hams_shared.bus.protocol import Bus, Journal, Message, Place
from hams_shared.errors import BrokerError, HamsError, NotFoundError, OverloadedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.events import EventsAnswer, EventsRequest, StoredEvent

log = logging.getLogger("hams.pipeline")

UNDER_WAY = 64
"""Most requests under way at once; more are refused."""

Deployed = Callable[[], Mapping[str, Collection[str]]]
"""Returns the streams of each deployed group."""


class EventHistory:
    """The stored events of all groups. Give each request on :func:`subjects.events_after` to :meth:`answer`."""

    def __init__(self, bus: Bus, deployed: Deployed) -> None:
        self._bus = bus
        self._deployed = deployed
        self._journal: Journal | None = None
        self._under_way = 0

    async def answer(self, message: Message) -> None:
        """Answer one request; an error is an answer, too."""
        self._under_way += 1
        try:
            if self._under_way > UNDER_WAY:
                raise OverloadedError(f"{UNDER_WAY} requests for events are under way already", "try again")
            answer = await self._page(message.subject.rsplit(".", 1)[-1], codec.decode(EventsRequest, message.data))
        except HamsError as error:
            answer = EventsAnswer(error=WireError(**error.to_wire()))
        finally:
            self._under_way -= 1
        try:
            await message.respond(codec.encode(answer))
        except BrokerError as error:
            log.warning("answer on %s is lost: %s", message.subject, error)

    async def _page(self, group: str, request: EventsRequest) -> EventsAnswer:
        if self._journal is None:
            self._journal = await events_journal(self._bus)
        subject = subjects.event(group, request.stream)
        found = await self._journal.page(subject, Place(request.after, request.journal, request.since_s))
        if not found.entries:
            await self._check(self._journal, group, request.stream)
        return EventsAnswer(
            events=tuple(StoredEvent(sequence=one.sequence, event=one.data) for one in found.entries),
            after=found.place.sequence,
            journal=found.place.journal,
            more=found.more,
        )

    async def _check(self, journal: Journal, group: str, stream: str) -> None:
        """Raise NotFoundError for a group or stream that is not deployed, and of which no event is stored."""
        deployed = self._deployed()
        streams = deployed.get(group)
        if streams is not None and stream in ("*", *streams):
            return
        if (await journal.page(subjects.event(group, stream), Place(), limit=1)).entries:
            return
        if streams is None:
            known = ", ".join(sorted(deployed)) or "none"
            raise NotFoundError(f"group {group} is not deployed, and has no stored events", f"deployed: {known}")
        known = ", ".join(sorted(streams)) or "none"
        raise NotFoundError(f"group {group} has no stream {stream}, and no stored events of one", f"it has {known}")
