"""The bus without a broker, for tests and for embedding: clients of one :class:`MemoryServer` hear each other.

It keeps to what NATS does, so that what passes here passes there: the same errors, at most once, in order,
bounded subscriptions, queue groups, "nobody answers", revisions, service discovery. ``tests/contract`` holds
it to that.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import uuid
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from hams_shared.answers import answer_subject
from hams_shared.bus import MACHINE, SERVICE_QUEUE, Handler, KeyValue, ObjectStore, Registration
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    DeadlineError,
    HamsError,
    NotFoundError,
    as_hams_error,
)
from hams_shared.memory_store import MemoryBucket, MemoryKeyValue, MemoryObjects, matches
from hams_shared.process import machine
from hams_shared.service_errors import ERROR_CODE, error_answer, service_error

log = logging.getLogger(__name__)

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


class MemoryMessage:
    """One received message."""

    __slots__ = ("_bus", "data", "headers", "reply", "subject")

    def __init__(self, bus: InMemoryBus, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> None:
        self._bus = bus
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers

    async def respond(self, data: bytes) -> None:
        """Publish `data` to :attr:`reply`; does nothing when no answer is awaited, or not on an inbox."""
        if answer_subject(self.reply, self.subject):
            await self._bus.publish(self.reply, data)


class MemorySubscription:
    """A live subscription: a bounded queue and the task that empties it."""

    def __init__(self, bus: InMemoryBus, subject: str, handler: Handler, queue: str, limit: int) -> None:
        self._bus = bus
        self._handler = handler
        self._waiting: deque[MemoryMessage] = deque()
        self._news = asyncio.Event()
        self._limit = limit
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.subject = subject
        self.queue = queue
        self.dropped = 0

    def start(self) -> None:
        """Begin to hand messages to the handler."""
        self._task = self._bus.own(self._run())

    def offer(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> None:
        """Take a message, or count it as dropped."""
        if len(self._waiting) >= self._limit:
            self.dropped += 1
            return
        self._waiting.append(MemoryMessage(self._bus, subject, data, reply, headers))
        self._news.set()

    async def _run(self) -> None:
        task = asyncio.current_task()
        while not self._closed:
            self._news.clear()
            while self._waiting and not self._closed:
                try:
                    await self._handler(self._waiting.popleft())
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

    async def unsubscribe(self) -> None:
        """Stop receiving; idempotent. A handler that unsubscribes itself still runs to its end."""
        self._closed = True
        with suppress(ValueError):
            self._bus.server.subscriptions.remove(self)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


@dataclass
class MemoryServer:
    """What the clients of one in-memory broker share."""

    max_payload: int = 8 * 1024 * 1024
    subscriptions: list[MemorySubscription] = field(default_factory=list)
    inboxes: dict[str, asyncio.Future[tuple[bytes, dict[str, str]]]] = field(default_factory=dict)
    buckets: dict[str, MemoryBucket] = field(default_factory=dict)
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)
    turn: itertools.count[int] = field(default_factory=itertools.count)

    def route(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> int:
        """Deliver to everyone concerned and one member of each queue group; return to how many."""
        inbox = self.inboxes.get(subject)
        if inbox is not None:
            if not inbox.done():
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
        # Members take turns; NATS draws one, so nobody may rely on either.
        chosen += [members[next(self.turn) % len(members)] for members in groups.values()]
        for subscription in chosen:
            subscription.offer(subject, data, reply, headers)
        return len(chosen)


class InMemoryBus:
    """One client of `server` (default: a new one, alone). Use as an async context manager."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = server or MemoryServer()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._mine: list[MemorySubscription] = []
        self._wakers: set[asyncio.Event] = set()
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close; handlers still running are cancelled."""
        self._open = False
        for subscription in self._mine:
            await subscription.unsubscribe()
        for event in self._wakers:
            event.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def waker(self) -> Iterator[asyncio.Event]:
        """Give an event that is set when the bus closes (and by whoever else has it)."""
        event = asyncio.Event()
        self._wakers.add(event)
        try:
            yield event
        finally:
            self._wakers.discard(event)

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task that ends with this bus."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def closed(self) -> bool:
        """Whether the bus is not (or no longer) open."""
        return not self._open

    @property
    def max_payload(self) -> int:
        """Largest message, bytes."""
        return self.server.max_payload

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
        """Send to all subscribers. Raises BrokerError when closed, or above :attr:`max_payload`."""
        self._check(subject, data)
        self.server.route(subject, bytes(data), reply, {})
        await asyncio.sleep(0)

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", limit: int = 1024
    ) -> MemorySubscription:
        """Call `handler` for each message on `subject`; one member per `queue` group. See :class:`Bus`."""
        self.check_open()
        _check_pattern(subject)
        subscription = MemorySubscription(self, subject, handler, queue, limit)
        self.server.subscriptions.append(subscription)
        self._mine.append(subscription)
        subscription.start()
        return subscription

    async def request(self, subject: str, data: bytes, *, timeout: float) -> MemoryMessage:
        """Send and await one answer. See :class:`Bus` for the errors."""
        self._check(subject, data)
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        answer: asyncio.Future[tuple[bytes, dict[str, str]]] = asyncio.get_running_loop().create_future()
        self.server.inboxes[inbox] = answer
        try:
            if not self.server.route(subject, bytes(data), inbox, {}):
                raise NotFoundError(f"nobody answers on {subject}")
            async with asyncio.timeout(timeout):
                body, headers = await answer
        except TimeoutError:
            raise DeadlineError(f"no answer in time: {subject}") from None
        finally:
            del self.server.inboxes[inbox]
        if ERROR_CODE in headers:
            raise service_error(headers, body)
        return MemoryMessage(self, inbox, body, "", headers)

    async def flush(self, timeout: float = 5.0) -> None:
        """Do nothing but give way: everything published has been taken."""
        self.check_open()
        await asyncio.sleep(0)

    async def kv(self, bucket: str) -> KeyValue:
        """Open a KV bucket, creating it when absent."""
        self.check_open()
        _check_bucket(bucket)
        return MemoryKeyValue(self, self.server.buckets.setdefault(bucket, MemoryBucket(bucket)))

    async def objects(self, bucket: str) -> ObjectStore:
        """Open an object store, creating it when absent."""
        self.check_open()
        _check_bucket(bucket)
        return MemoryObjects(self, bucket, self.server.stores.setdefault(bucket, {}))

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

            async def tell(message: Any, body: bytes = body) -> None:
                await message.respond(body)

            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{identity['id']}"):
                made.append(await self.subscribe(subject, tell))
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
                if answer_subject(message.reply, message.subject):
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
