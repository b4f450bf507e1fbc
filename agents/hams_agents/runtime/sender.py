"""Sends what leaves the device: into mailboxes at once, from any thread; the rest by the broker, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

from hams_shared.bus import chunks
from hams_shared.bus.mailbox import Mailboxes, Outgoing
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError

log = logging.getLogger("hams.agent")

QUEUE_LIMIT = 32
"""Messages of finished pieces of work that wait for the broker; then the finishing thread waits."""
REFUSED_LIMIT = 1024
"""Messages that wait for the broker, from which on answers to refused work are lost."""
DEADLINE_S = 10.0
"""How long a finishing thread waits before outputs are lost, s."""


class Sender:
    """Made on the event loop."""

    def __init__(self, bus: Bus, mailboxes: Mailboxes) -> None:
        self._bus = bus
        self._mailboxes = mailboxes
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[Sequence[Outgoing], bool]] = asyncio.Queue()
        """Messages, and whether they took room: bounded by `_room` and REFUSED_LIMIT."""
        self._room = threading.BoundedSemaphore(QUEUE_LIMIT)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages from a thread beside the event loop; wait while too many are under way."""
        left = self._left(messages)
        if not left:
            return
        if not self._room.acquire(timeout=DEADLINE_S):
            log.warning("outputs lost: the broker took nothing for %g s", DEADLINE_S)
            return
        with suppress(RuntimeError):  # the loop is closed: the agent has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (left, True))

    def send_soon(self, messages: Sequence[Outgoing]) -> None:
        """Send messages from the event loop, without waiting."""
        left = self._left(messages)
        if left and self._queue.qsize() < REFUSED_LIMIT:
            self._queue.put_nowait((left, False))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages from the event loop, and wait until the broker has taken them."""
        for one in self._left(messages):
            try:
                await chunks.publish(self._bus, one.subject, one.data)
            except HamsError as error:  # the pipeline's deadline covers what is lost
                log.warning("cannot publish on %s: %s", one.subject, error)

    async def run(self) -> None:
        """Publish what waits for the broker, until cancelled."""
        while True:
            messages, took_room = await self._queue.get()
            try:
                await self.publish(messages)
            finally:
                self._queue.task_done()
                if took_room:
                    self._room.release()

    async def drained(self) -> None:
        """Wait until nothing waits for the broker."""
        await self._queue.join()

    def _left(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Put messages into mailboxes; return those that have to go by the broker."""
        return [one for one in messages if not self._mailboxes.send(one)]
