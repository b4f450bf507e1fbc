"""Messages and subscriptions of the NATS bus."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import nats.errors

from hams_shared.bus.inboxes import answer_subject
from hams_shared.bus.protocol import Handler
from hams_shared.errors import HamsError

if TYPE_CHECKING:
    from hams_shared.bus.nats.client import NatsBus

log = logging.getLogger(__name__)


class NatsMessage:
    """One received message."""

    __slots__ = ("_bus", "data", "headers", "reply", "subject")

    def __init__(self, bus: NatsBus, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        self._bus = bus
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers or {}

    async def respond(self, data: bytes) -> None:
        """Publish `data` to :attr:`reply`; does nothing when no answer is awaited, or not on an inbox."""
        # Not nats-py's Msg.respond: it sends the request's headers back.
        if answer_subject(self.reply, self.subject):
            await self._bus.publish(self.reply, data)


class NatsSubscription:
    """A live subscription; nats-py calls `receive` for one message after another."""

    def __init__(self, bus: NatsBus, subject: str, handler: Handler) -> None:
        self._bus = bus
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
            await self._handler(NatsMessage(self._bus, msg.subject, msg.data, msg.reply, msg.headers))
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
        self._bus.forget(self)
        with suppress(nats.errors.Error, OSError):
            await self.raw.unsubscribe()
