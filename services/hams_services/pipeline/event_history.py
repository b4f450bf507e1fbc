"""Answers requests for stored events and results. Applications read them here: only parts may ask JetStream."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping

from hams_shared.bus.journal import events_journal
from hams_shared.bus.protocol import Bus, Journal, Message, Place
from hams_shared.errors import BrokerError, HamsError, NotFoundError, OverloadedError
from hams_shared.runtime.lifecycle import Jobs
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.base import StoredAnswer, WireError
from hams_shared.wire.messages.events import EventsAnswer, EventsRequest, StoredEvent

log = logging.getLogger("hams.pipeline")

UNDER_WAY = 64
"""Most requests under way at once; more are refused."""

WAITING = 1024
"""Most requests that wait to be taken."""

Deployed = Callable[[], Mapping[str, Collection[str]]]
"""Returns the streams of each deployed group."""


class StoredHistory(ABC):
    """What the broker has stored of one kind, of all groups."""

    kind: str
    """What is stored, for people."""
    failed: type[StoredAnswer]
    subject: str
    """Of the requests."""

    def __init__(self, bus: Bus, deployed: Deployed) -> None:
        self._bus = bus
        self._deployed = deployed
        self._under_way = 0

    async def subscribe(self, jobs: Jobs) -> None:
        """Answer requests from now on, in `jobs`."""

        async def take(message: Message) -> None:
            jobs.start(self.answer(message))

        await self._bus.subscribe(self.subject, take, queue="pipeline", limit=WAITING)

    async def answer(self, message: Message) -> None:
        """Answer one request; an error is an answer, too."""
        self._under_way += 1
        try:
            if self._under_way > UNDER_WAY:
                raise OverloadedError(f"{UNDER_WAY} requests for {self.kind} are under way already", "try again")
            answer = await self._answer(message.subject.rsplit(".", 1)[-1], message.data)
        except HamsError as error:
            answer = self.failed(error=WireError(**error.to_wire()))
        finally:
            self._under_way -= 1
        try:
            await message.respond(codec.encode(answer))
        except BrokerError as error:
            log.warning("answer on %s is lost: %s", message.subject, error)

    @abstractmethod
    async def _answer(self, group: str, request: bytes) -> StoredAnswer: ...

    async def _check(self, journal: Journal, subject: str, group: str, stream: str) -> None:
        """Raise NotFoundError for a group or stream that is not deployed, and of which nothing is stored."""
        deployed = self._deployed()
        streams = deployed.get(group)
        if streams is not None and stream in ("*", *streams):
            return
        if (await journal.page(subject, Place(), limit=1)).entries:
            return
        if streams is None:
            known = ", ".join(sorted(deployed)) or "none"
            raise NotFoundError(f"group {group} is not deployed, and has no stored {self.kind}", f"deployed: {known}")
        known = ", ".join(sorted(streams)) or "none"
        text = f"group {group} has no stream {stream}, and no stored {self.kind} of one"
        raise NotFoundError(text, f"it has {known}")


class EventHistory(StoredHistory):
    """The stored events of all groups: requests on :func:`subjects.events_after`."""

    kind, failed, subject = "events", EventsAnswer, subjects.events_after()
    _journal: Journal | None = None

    async def _answer(self, group: str, request: bytes) -> EventsAnswer:
        wanted = codec.decode(EventsRequest, request)
        if self._journal is None:
            self._journal = await events_journal(self._bus)
        subject = subjects.event(group, wanted.stream)
        found = await self._journal.page(subject, Place(wanted.after, wanted.journal, wanted.since_s))
        if not found.entries:
            await self._check(self._journal, subject, group, wanted.stream)
        return EventsAnswer(
            events=tuple(StoredEvent(sequence=one.sequence, event=one.data) for one in found.entries),
            after=found.place.sequence,
            journal=found.place.journal,
            more=found.more,
        )
