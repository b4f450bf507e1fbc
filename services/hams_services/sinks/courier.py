"""Takes events out of HAMS's journal into a queue, and the queue's to a receiver: each at least once, and in order."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from hams_client import Event, Hams
from hams_services.sinks.event_queue import EventQueue, Waiting
from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError, NotFoundError
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.lifecycle import first_of, happens
from hams_shared.wire import codec

log = logging.getLogger("hams.sinks")

AGAIN = Backoff(first=0.5, longest=60.0, jitter=0.25)
"""Pauses between two tries."""
LONGEST_S = 3600.0
"""A receiver that asks for a longer pause gets this one, s."""
TICK_S = 1.0
"""How long one wait lasts, s."""


class LaterError(Exception):
    """The receiver does not take an event now. `pause_s`: what it asks to wait, s."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class RefusedForGoodError(Exception):
    """The receiver will never take this event."""


class Receiver(Protocol):
    """What takes events."""

    where: str
    """For the log: without secrets."""

    def deliver(self, id: str, body: bytes) -> None:
        """Deliver the event `id`, which is `body` as JSON; it may block. Raises LaterError, RefusedForGoodError."""


class Courier:
    """Between the journal of one group and a receiver."""

    def __init__(self, queue: EventQueue, receiver: Receiver, again: Backoff = AGAIN) -> None:
        self._queue, self._receiver, self._again = queue, receiver, again
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self.sent = self.refused = 0

    async def run(self, bus: Bus, group: str, stream: str | None, wanted: Callable[[Event], bool]) -> None:
        """Work until cancelled. Raises SourceError and NoSpaceError of the queue, and as :meth:`Hams.events`."""
        await first_of(self._read(bus, group, stream, wanted), self.send())

    async def _read(self, bus: Bus, group: str, stream: str | None, wanted: Callable[[Event], bool]) -> None:
        """Read the journal without an end. Only where it was never read before, HAMS must answer at the start."""
        failures = 0
        while True:
            try:
                async with aclosing(Hams(bus).events(group, stream, after=self._queue.after)) as events:
                    async for event in events:
                        failures = 0
                        if wanted(event):
                            await self.take(event)
                        else:
                            self._queue.pass_by(event.sequence)
            except (NotFoundError, DeadlineError) as error:
                if self._queue.after is None:
                    raise
                failures += 1
                pause = self._again.pause(failures, random.random())
                if failures & (failures - 1) == 0:
                    log.warning("no events of %s: %s; trying again in %.1f s", group, error, pause)
                await asyncio.sleep(pause)

    async def take(self, event: Event) -> None:
        """Take an event; wait while the queue is full."""
        while self._queue.full:
            self._room.clear()
            await happens(self._room, TICK_S)
        self._queue.put(event.sequence, event.id, codec.pack_json(event.model_dump()))
        self._news.set()

    async def send(self) -> None:
        """Send what is in the queue, the oldest first, without an end."""
        while True:
            self._news.clear()
            one = self._queue.first()
            if one is None:
                await happens(self._news, TICK_S)
                continue
            await self._deliver(one)
            self._room.set()

    async def _deliver(self, one: Waiting) -> None:
        failures = 0
        while True:
            try:
                await asyncio.to_thread(self._receiver.deliver, one.id, one.body)
            except RefusedForGoodError as error:
                self._queue.done(one, refused=True)
                self.refused += 1
                log.error("%s refuses event %s: %s", self._receiver.where, one.id, error)
                return
            except LaterError as error:
                failures += 1
                pause = max(self._again.pause(failures, random.random()), min(error.pause_s, LONGEST_S))
                if failures & (failures - 1) == 0:
                    text = "%s takes no event: %s; %d wait; trying again in %.1f s"
                    log.warning(text, self._receiver.where, error, len(self._queue), pause)
                await asyncio.sleep(pause)
                continue
            self._queue.done(one)
            self.sent += 1
            return
