"""The bus over a real nats-server: messages, subscriptions, requests and services.

A handler's exception is never fatal: it is logged, and of a request it is the answer. The connection itself is
:mod:`hams_shared.bus.nats.connection`.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import nats.errors
import nats.micro
from nats.micro.request import Request

from hams_shared.bus.answers import ERROR_CODE, answer_subject, error_answer, service_error
from hams_shared.bus.nats.connection import CLOSE_S, NatsConnection
from hams_shared.bus.nats.erasing import ErasingKeyValue
from hams_shared.bus.nats.errors import translated
from hams_shared.bus.nats.journal import NatsJournal
from hams_shared.bus.nats.kv import NatsKeyValue
from hams_shared.bus.nats.objects import NatsObjectStore
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
from hams_shared.errors import BadInputError, DeadlineError, HamsError, as_hams_error
from hams_shared.runtime.process import machine

log = logging.getLogger(__name__)

SUBSCRIPTION_BYTES = 256 * 1024 * 1024
"""Second bound of every subscription, for messages that are large."""


class NatsMessage:
    """One received message."""

    __slots__ = ("_connection", "data", "headers", "reply", "subject")

    def __init__(
        self, connection: NatsConnection, subject: str, data: bytes, reply: str, headers: dict[str, str] | None
    ) -> None:
        self._connection = connection
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers or {}

    async def respond(self, data: bytes) -> None:
        """Publish `data` to :attr:`reply`; does nothing when no answer is awaited, or not on an inbox."""
        # Not nats-py's Msg.respond: it sends the request's headers back.
        if answer_subject(self.reply, self.subject):
            await self._connection.publish(self.reply, data)


class NatsSubscription:
    """A live subscription; nats-py calls `receive` for one message after another."""

    def __init__(self, connection: NatsConnection, subject: str, handler: Handler) -> None:
        self._connection = connection
        self._subject = subject
        self._handler = handler
        self._inside: asyncio.Task[Any] | None = None
        self._closed = False
        self._stop_after = False
        self.raw: Any = None
        self.dropped = 0

    async def receive(self, msg: Any) -> None:
        """Hand one message to the handler; what it raises is logged."""
        if self._closed:
            return
        task = self._inside = asyncio.current_task()
        try:
            await self._handler(NatsMessage(self._connection, msg.subject, msg.data, msg.reply, msg.headers))
        except asyncio.CancelledError:
            # nats-py ends the subscription when a CancelledError leaves the handler, also one that merely
            # leaked out of something the handler awaited. Only a cancellation of this very task is meant for
            # us.
            if task is not None and task.cancelling():
                raise
            log.error("handler of %s was cancelled from inside", self._subject)
        except Exception as error:
            log.error("handler of %s: %s", self._subject, error, exc_info=not isinstance(error, HamsError))
        finally:
            self._inside = None
        if self._stop_after:
            await self._stop()

    async def unsubscribe(self) -> None:
        """Stop receiving; idempotent. A handler that unsubscribes itself still runs to its end."""
        if self._closed:
            return
        self._closed = True
        # nats-py cancels the task of the subscription: that would be the caller itself.
        if self._inside is not None and self._inside is asyncio.current_task():
            self._stop_after = True
        else:
            await self._stop()

    async def _stop(self) -> None:
        self._connection.forget(self.raw)
        with suppress(nats.errors.Error, OSError):
            await self.raw.unsubscribe()


class NatsBus(NatsConnection):
    """The bus over one connection to a nats-server; options as of :class:`NatsConnection`."""

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", limit: int = 1024
    ) -> NatsSubscription:
        """Call `handler` for each message on `subject`; one member per `queue` group. See :class:`Bus`."""
        self.check_open()
        subscription = NatsSubscription(self, subject, handler)
        with translated(f"subscribe to {subject}"):
            subscription.raw = await self._nc.subscribe(
                subject,
                queue=queue,
                cb=subscription.receive,
                pending_msgs_limit=limit,
                pending_bytes_limit=SUBSCRIPTION_BYTES,
            )
        self._subscriptions[subscription.raw] = subscription
        return subscription

    async def request(self, subject: str, data: bytes, *, timeout: float) -> NatsMessage:
        """Send and await one answer. See :class:`Bus` for the errors."""
        self.check_open()
        with self.allowed(subject):
            answer = await self._nc.request(subject, data, timeout=timeout)
        message = NatsMessage(self, answer.subject, answer.data, "", answer.headers)
        if ERROR_CODE in message.headers:
            raise service_error(message.headers, message.data)
        return message

    async def kv(self, bucket: str, *, erase: bool = False) -> KeyValue:
        """Open a KV bucket (on disk, history 1), creating it when absent."""
        self.check_open()
        return await (ErasingKeyValue if erase else NatsKeyValue)(self, bucket).open()

    async def objects(self, bucket: str) -> ObjectStore:
        """Open an object store (on disk), creating it when absent."""
        self.check_open()
        return await NatsObjectStore(self, bucket).open()

    async def journal(self, name: str, subject: str, bounds: Bounds) -> Journal:
        """Open a journal (on disk), creating it when absent."""
        self.check_open()
        try:
            return await NatsJournal(self, name, subject, bounds).open()
        except ValueError as error:
            raise BadInputError(f"journal {name}: {error}") from None

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
        self.check_open()
        client = _InboxesOnly(self._nc)
        try:
            with translated(f"serve {name}"), warnings.catch_warnings():
                # nats.micro calls datetime.utcnow(), deprecated from Python 3.12 on.
                warnings.simplefilter("ignore", DeprecationWarning)
                about = {**metadata, MACHINE: machine()}
                service = await nats.micro.add_service(client, name=name, version=version, metadata=about)
                for endpoint, (subject, handler) in endpoints.items():
                    await service.add_endpoint(
                        name=endpoint, subject=subject, handler=self._endpoint(handler), queue_group=queue
                    )
            try:
                await self.flush()
            except DeadlineError as error:
                log.warning("serve %s: %s; it answers once the broker does", name, error)
        except BaseException as error:
            await client.withdraw()  # nobody could stop what was begun
            if isinstance(error, ValueError):
                raise BadInputError(f"serve {name}: {error}") from None
            raise
        return NatsRegistration(service)

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[None]]:
        async def answer(request: Any) -> None:
            # The reply subject is only on the wrapped message.
            msg = request._msg
            try:
                await handler(NatsMessage(self, msg.subject, msg.data, msg.reply, msg.headers))
            except Exception as error:
                known = as_hams_error(error)
                log.log(
                    logging.INFO if known is error else logging.ERROR,
                    "request on %s: %s",
                    msg.subject,
                    error,
                    exc_info=known is not error,
                )
                if msg.reply:
                    body, error_headers = error_answer(known)
                    await self.publish_with(msg.reply, body, "", error_headers)

        return answer


class _InboxesOnly:
    """nats-py's client as :mod:`nats.micro` uses it; a request that wants no inbox answered is dropped."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._made: list[Any] = []

    async def subscribe(self, subject: str, queue: str = "", cb: Callable[[Any], Awaitable[None]] | None = None) -> Any:
        """As nats-py's."""
        assert cb is not None

        async def asked(message: Any) -> None:
            if answer_subject(message.reply, message.subject) == message.reply:
                await cb(message)

        made = await self._client.subscribe(subject, queue=queue, cb=asked)
        self._made.append(made)
        return made

    async def flush(self) -> None:
        """Do nothing: `serve` waits for the broker itself. One of nats-py's that is cancelled ends its reading."""

    async def withdraw(self) -> None:
        """End all subscriptions at once; without a broker, too."""
        for made in self._made:
            with suppress(nats.errors.Error, OSError):
                await made.unsubscribe()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class NatsRegistration:
    """A micro service of this client."""

    def __init__(self, service: Any) -> None:
        self._service = service

    async def stop(self) -> None:
        """Answer no more; idempotent. Raises BrokerError or DeadlineError while the broker is away."""
        with translated("end a service"):
            async with asyncio.timeout(CLOSE_S):
                await self._service.stop()
