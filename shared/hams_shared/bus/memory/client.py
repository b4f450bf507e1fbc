"""The bus without a broker, for tests and for embedding: clients of one :class:`MemoryServer` hear each other.

It keeps to what NATS does, so that what passes here passes there: the same errors, at most once, in order,
bounded subscriptions, queue groups, "nobody answers", revisions, service discovery. ``tests/contract`` holds
it to that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Self

from hams_shared.bus.answers import ERROR_CODE, answer_subject, error_answer, service_error
from hams_shared.bus.memory.journal import MemoryJournal, MemoryJournalClient
from hams_shared.bus.memory.server import MemoryMessage, MemoryServer, MemorySubscription
from hams_shared.bus.memory.store import MemoryBucket, MemoryKeyValue, MemoryObjects
from hams_shared.bus.protocol import (
    MACHINE,
    SERVICE_QUEUE,
    Bounds,
    Handler,
    Journal,
    KeyValue,
    ObjectStore,
    Registration,
)
from hams_shared.bus.wakers import Wakers
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    DeadlineError,
    NotFoundError,
    as_hams_error,
)
from hams_shared.runtime.process import machine

log = logging.getLogger(__name__)

OP_DEADLINE_S = 5.0
"""How long one operation on a store waits for a server that is away, s."""
PENDING_BYTES = 64 * 1024 * 1024
"""Most bytes of messages that wait for a server that is away."""

_BUCKET = re.compile(r"[a-zA-Z0-9_-]+")
_WHITE = re.compile(r"[ \t\r\n]")


def _check_subject(subject: str) -> None:
    if not subject or _WHITE.search(subject):
        raise BadInputError(f"{subject!r}: not a valid subject")


def _check_pattern(pattern: str) -> None:
    _check_subject(pattern)
    *before, last = pattern.split(".")
    if any(not t or ">" in t or ("*" in t and t != "*") for t in [*before, last.replace(">", "-", last == ">")]):
        raise BadInputError(f"{pattern!r}: not a valid subject")


class InMemoryBus:
    """One client of `server` (default: a new one, alone). Use as an async context manager."""

    def __init__(
        self,
        server: MemoryServer | None = None,
        *,
        on_disconnect: Callable[[], None] | None = None,
        on_reconnect: Callable[[], None] | None = None,
        pending_bytes: int = PENDING_BYTES,
    ) -> None:
        self.server = server or MemoryServer()
        self.generation = 1
        """Counts the connections made: a watch begun in an older generation starts over."""
        self._on_disconnect = on_disconnect
        self._on_reconnect = on_reconnect
        self._pending: deque[tuple[str, bytes, str]] = deque()  # bounded by its bytes
        self._pending_bytes = pending_bytes
        self._cut = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._mine: weakref.WeakSet[MemorySubscription] = weakref.WeakSet()
        self.wakers = Wakers()
        """Woken when the server is back, and when the bus closes."""
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        self.server.clients.append(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close; handlers still running are cancelled."""
        self.crash()
        for subscription in list(self._mine):
            await subscription.unsubscribe()
        self.wakers.wake()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task that ends with this bus."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ── the link to the server ────────────────────────────────────────────────────────────────────────────────

    @property
    def connected(self) -> bool:
        """Whether the server is in reach."""
        return self._open and self.server.running and not self._cut

    def cut(self) -> None:
        """Lose the link to the server until :meth:`heal`."""
        self._cut = True
        self.link_lost()

    def heal(self) -> None:
        """Have the link back."""
        self._cut = False
        self.link_back()

    def link_lost(self) -> None:
        """The server is out of reach: what is published waits, what is asked fails at its deadline."""
        if self._open and self._on_disconnect is not None:
            self._on_disconnect()

    def link_back(self) -> None:
        """The server is in reach again: send what waits, and have watches read again."""
        if not self.connected:
            return
        self.generation += 1
        while self._pending:
            self.server.route(*self._pending.popleft(), {})
        self.wakers.wake()
        if self._on_reconnect is not None:
            self._on_reconnect()

    def crash(self) -> None:
        """Be gone at once, as a process that is killed: nothing more is sent or received."""
        if self._open:
            self.server.clients.remove(self)
        self._open = False
        for subscription in list(self._mine):
            subscription.leave()

    async def reachable(self, what: str, timeout: float = OP_DEADLINE_S) -> None:
        """Wait until the server is in reach. Raises DeadlineError after `timeout` s, BrokerError when closed."""
        self.check_open()
        if self.connected:
            return
        with self.wakers.event() as wake:
            try:
                async with asyncio.timeout(timeout):
                    while not self.connected:
                        wake.clear()
                        await wake.wait()
                        self.check_open()
            except TimeoutError:
                raise DeadlineError(f"{what}: the broker is away") from None

    @property
    def closed(self) -> bool:
        """Whether the bus is not (or no longer) open."""
        return not self._open

    @property
    def max_payload(self) -> int:
        """Largest message, bytes."""
        return self.server.max_payload

    @property
    def user(self) -> str:
        """No user: this broker knows none."""
        return ""

    def check_open(self) -> None:
        """Raise BrokerError when closed."""
        if not self._open:
            raise BrokerError("the bus is not open", "use it with `async with`")

    def _check(self, subject: str, data: bytes) -> None:
        self.check_open()
        _check_subject(subject)
        if len(data) > self.max_payload:
            raise BrokerError(
                f"{subject}: a message of {len(data)} bytes, but the broker takes {self.max_payload}",
                "raise max_payload of the broker",
            )

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send to all subscribers; while the server is away, into a bounded buffer. Raises as :class:`Bus`."""
        self._check(subject, data)
        if self.connected:
            self.server.route(subject, bytes(data), reply, {})
        elif sum(len(waiting) for _, waiting, _ in self._pending) + len(data) > self._pending_bytes:
            raise BrokerError(f"{subject}: the broker is away, and the buffer for it is full")
        else:
            self._pending.append((subject, bytes(data), reply))
        await asyncio.sleep(0)

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", limit: int = 1024
    ) -> MemorySubscription:
        """Call `handler` for each message on `subject`; one member per `queue` group. See :class:`Bus`."""
        self.check_open()
        _check_pattern(subject)
        subscription = MemorySubscription(self, self.server, subject, handler, queue, limit)
        self.server.subscriptions.append(subscription)
        self._mine.add(subscription)
        subscription.start()
        return subscription

    async def request(self, subject: str, data: bytes, *, timeout: float) -> MemoryMessage:
        """Send and await one answer. See :class:`Bus` for the errors."""
        self._check(subject, data)
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        answer: asyncio.Future[tuple[bytes, dict[str, str]]] = asyncio.get_running_loop().create_future()
        self.server.inboxes[inbox] = self, answer
        try:
            async with asyncio.timeout(timeout):
                await self.reachable(subject, timeout)
                if not self.server.route(subject, bytes(data), inbox, {}):
                    raise NotFoundError(f"nobody answers on {subject}")
                body, headers = await answer
        except TimeoutError:
            raise DeadlineError(f"no answer in time: {subject}") from None
        finally:
            del self.server.inboxes[inbox]
        if ERROR_CODE in headers:
            raise service_error(headers, body)
        return MemoryMessage(self, inbox, body, "", headers)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server is there: it has taken everything published then. Raises DeadlineError."""
        await self.reachable("flush", timeout)
        await asyncio.sleep(0)

    async def kv(self, bucket: str, *, erase: bool = False) -> KeyValue:
        """Open a KV bucket, creating it when absent; in memory nothing stays of what is deleted."""
        _check_bucket(bucket)
        await self.reachable(f"bucket {bucket}")
        return MemoryKeyValue(self, self.server.buckets.setdefault(bucket, MemoryBucket(bucket)))

    async def objects(self, bucket: str) -> ObjectStore:
        """Open an object store, creating it when absent."""
        _check_bucket(bucket)
        await self.reachable(f"bucket {bucket}")
        return MemoryObjects(self, bucket, self.server.stores.setdefault(bucket, {}))

    async def journal(self, name: str, subject: str, bounds: Bounds) -> Journal:
        """Open a journal, creating it when absent."""
        _check_bucket(name)
        await self.reachable(f"journal {name}")
        kept = self.server.journals.setdefault(name, MemoryJournal(name, subject, bounds))
        return MemoryJournalClient(self, self.server, kept)

    async def serve(
        self,
        name: str,
        version: str,
        metadata: dict[str, str],
        endpoints: dict[str, tuple[str, Handler]],
        *,
        queue: str = SERVICE_QUEUE,
    ) -> Registration:
        """Register as a NATS micro service until the bus closes. See :class:`Bus`."""
        if not _BUCKET.fullmatch(name) or not re.match(r"\d+\.\d+\.\d+", version):
            raise BadInputError(f"serve {name} {version}: not a valid service name or semantic version")
        about = {**metadata, MACHINE: machine()}
        identity = {"name": name, "id": uuid.uuid4().hex[:22], "version": version, "metadata": about}
        listed = [
            {"name": endpoint, "subject": subject, "queue_group": queue, "metadata": None}
            for endpoint, (subject, _) in endpoints.items()
        ]
        answers: dict[str, dict[str, Any]] = {
            "PING": {},
            "INFO": {"description": None, "endpoints": listed},
            "STATS": {"endpoints": listed, "started": datetime.now(UTC).isoformat()},
        }
        made: list[MemorySubscription] = []
        for verb, more in answers.items():
            body = json.dumps({"type": f"io.nats.micro.v1.{verb.lower()}_response", **identity, **more}).encode()

            async def answer(message: Any, body: bytes = body) -> None:
                await message.respond(body)

            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{identity['id']}"):
                made.append(await self.subscribe(subject, answer))
        for subject, handler in endpoints.values():
            made.append(await self.subscribe(subject, self._endpoint(handler), queue=queue))
        return MemoryRegistration(made)

    def _endpoint(self, handler: Handler) -> Handler:
        async def answer(message: Any) -> None:
            try:
                await handler(message)
            except Exception as error:
                known = as_hams_error(error)
                if known is not error:
                    log.exception("request on %s", message.subject)
                if self.connected and answer_subject(message.reply, message.subject):
                    body, headers = error_answer(known)
                    self.server.route(message.reply, body, "", headers)

        return answer


class MemoryRegistration:
    """A service of this client."""

    def __init__(self, subscriptions: list[MemorySubscription]) -> None:
        self._subscriptions = subscriptions

    async def stop(self) -> None:
        """Answer no more; idempotent."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()


def _check_bucket(bucket: str) -> None:
    if not _BUCKET.fullmatch(bucket):
        raise BadInputError(f"bucket {bucket}: not a valid bucket name")
