"""The broker of the in-memory bus: subscriptions, inboxes, buckets, and the faults that a test gives it.

It can stop and come back, with its store or without; it can be slow, and it can lose messages. What its clients see
then is what a real broker's clients see.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from hams_shared.bus.answers import answer_subject
from hams_shared.bus.memory.journal import MemoryJournal
from hams_shared.bus.memory.store import MemoryBucket, matches
from hams_shared.bus.protocol import Handler
from hams_shared.errors import HamsError

log = logging.getLogger(__name__)


class Client(Protocol):
    """A client as the server sees it."""

    @property
    def connected(self) -> bool:
        """Whether messages reach it."""
        ...

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task that ends with the client."""
        ...

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send to all subscribers."""
        ...

    def link_lost(self) -> None:
        """The server is out of reach."""
        ...

    def link_back(self) -> None:
        """The server is in reach again."""
        ...


class MemoryMessage:
    """One received message."""

    __slots__ = ("_client", "data", "headers", "reply", "subject")

    def __init__(self, client: Client, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> None:
        self._client = client
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers

    async def respond(self, data: bytes) -> None:
        """Publish `data` to :attr:`reply`; does nothing when no answer is awaited, or not on an inbox."""
        if answer_subject(self.reply, self.subject):
            await self._client.publish(self.reply, data)


class MemorySubscription:
    """A live subscription: a bounded queue and the task that empties it."""

    def __init__(
        self, client: Client, server: MemoryServer, subject: str, handler: Handler, queue: str, limit: int
    ) -> None:
        self._client = client
        self._server = server
        self._handler = handler
        self._waiting: deque[tuple[float, MemoryMessage]] = deque()
        """Each with when it arrives, by the loop's clock."""
        self._news = asyncio.Event()
        self._limit = limit
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.subject = subject
        self.queue = queue
        self.dropped = 0

    def start(self) -> None:
        """Begin to hand messages to the handler."""
        self._task = self._client.own(self._run())

    def offer(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> None:
        """Take a message, or count it as dropped; one that is sent to a client out of reach is lost."""
        if not self._client.connected or self._server.loses(subject):
            return
        if len(self._waiting) >= self._limit:
            self.dropped += 1
            return
        arrives = asyncio.get_running_loop().time() + self._server.delay_s
        self._waiting.append((arrives, MemoryMessage(self._client, subject, data, reply, headers)))
        self._news.set()

    async def _run(self) -> None:
        task = asyncio.current_task()
        while not self._closed:
            self._news.clear()
            while self._waiting and not self._closed:
                try:
                    await self._handler(await self._next())
                except asyncio.CancelledError:
                    if task is not None and task.cancelling():
                        raise
                    log.error("handler of %s was cancelled from inside", self.subject)
                except Exception as error:
                    log.error("handler of %s: %s", self.subject, error, exc_info=not isinstance(error, HamsError))
                # A handler that never waits must not starve everyone else.
                await asyncio.sleep(0)
            if not self._closed:
                await self._news.wait()

    async def _next(self) -> MemoryMessage:
        late = self._waiting[0][0] - asyncio.get_running_loop().time()
        if late > 0:
            await asyncio.sleep(late)
        return self._waiting.popleft()[1]

    def leave(self) -> None:
        """Receive no more."""
        self._closed = True
        with suppress(ValueError):
            self._server.subscriptions.remove(self)

    async def unsubscribe(self) -> None:
        """Stop receiving; idempotent. A handler that unsubscribes itself still runs to its end."""
        self.leave()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


@dataclass
class MemoryServer:
    """The state of one in-memory broker."""

    max_payload: int = 8 * 1024 * 1024
    subscriptions: list[MemorySubscription] = field(default_factory=list)
    inboxes: dict[str, tuple[Client, asyncio.Future[tuple[bytes, dict[str, str]]]]] = field(default_factory=dict)
    buckets: dict[str, MemoryBucket] = field(default_factory=dict)
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)
    journals: dict[str, MemoryJournal] = field(default_factory=dict)
    turn: itertools.count[int] = field(default_factory=itertools.count)
    clients: list[Client] = field(default_factory=list)
    running: bool = True
    delay_s: float = 0.0
    """How long each message to a subscriber takes, s."""
    loses: Callable[[str], bool] = lambda _: False
    """Whether a message on this subject, to one subscriber, is lost on its way."""

    def stop(self) -> None:
        """Be away: every client loses its connection."""
        self.running = False
        for client in list(self.clients):
            client.link_lost()

    def start(self, *, empty: bool = False) -> None:
        """Be there again, with what was stored, or with nothing."""
        if empty:
            for bucket in self.buckets.values():
                bucket.wipe()
            for store in self.stores.values():
                store.clear()
            for journal in self.journals.values():
                journal.wipe()
        self.running = True
        for client in list(self.clients):
            client.link_back()

    def route(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> int:
        """Store in the journals of `subject`, and deliver; return to how many."""
        for journal in self.journals.values():
            if matches(journal.subject, subject):
                journal.store(subject, data, "", asyncio.get_running_loop().time())
        return self.deliver(subject, data, reply, headers)

    def deliver(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> int:
        """Deliver to everyone concerned and one member of each queue group; return to how many."""
        if subject in self.inboxes:
            client, inbox = self.inboxes[subject]
            if client.connected and not inbox.done():
                inbox.set_result((data, headers))
            return 1
        groups: dict[str, list[MemorySubscription]] = {}
        chosen: list[MemorySubscription] = []
        for subscription in self.subscriptions:
            if matches(subscription.subject, subject):
                if subscription.queue:
                    groups.setdefault(subscription.queue, []).append(subscription)
                else:
                    chosen.append(subscription)
        # Members take turns; NATS picks one at random, so no client may rely on either.
        chosen += [members[next(self.turn) % len(members)] for members in groups.values()]
        for subscription in chosen:
            subscription.offer(subject, data, reply, headers)
        return len(chosen)
