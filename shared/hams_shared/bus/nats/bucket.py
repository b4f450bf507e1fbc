"""The base of the NATS bus's key-value buckets, object stores and journals.

All re-open their bucket when it vanished (a broker that came back with an empty store) and try again for
`OP_DEADLINE_S`. A write that ends in a DeadlineError may or may not have been stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import nats.errors
import nats.js.errors as js_errors

from hams_shared.bus.nats.connection import NatsConnection
from hams_shared.bus.nats.errors import AWAY
from hams_shared.errors import BrokerError

T = TypeVar("T")

OP_DEADLINE_S = 5.0
"""How long one operation waits for a bucket that is away."""

_EXISTS_OTHERWISE = 10058
_STREAM_NOT_FOUND = 10059


class Bucket:
    """A bucket that is opened or created, with operations that are tried again while it is away."""

    def __init__(self, bus: NatsConnection, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket
        self._js: Any = bus.jetstream
        self._raw: Any = None

    async def _bind(self) -> Any:
        raise NotImplementedError

    async def _create(self) -> Any:
        raise NotImplementedError

    async def open(self) -> Self:
        """Open the bucket, creating it when absent."""

        async def nothing() -> None: ...

        await self._retry("open", nothing)
        return self

    async def _open(self) -> None:
        with self._bus.allowed(f"bucket {self._bucket}"):
            try:
                self._raw = await self._bind()
            except js_errors.NotFoundError:
                try:
                    self._raw = await self._create()
                except js_errors.BadRequestError as error:
                    if error.err_code != _EXISTS_OTHERWISE:
                        raise
                    # Someone else created it just now, with other settings: theirs hold.
                    self._raw = await self._bind()

    async def _retry(self, what: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Run `operation`; while the bucket is away, re-open it and run it again, for OP_DEADLINE_S."""
        self._bus.check_open()
        loop = asyncio.get_running_loop()
        end = loop.time() + OP_DEADLINE_S
        with self._bus.allowed(f"bucket {self._bucket}, {what}"):
            while True:
                try:
                    if self._raw is None:
                        await self._open()
                    return await operation()
                except AWAY:
                    self._raw = None
                    if loop.time() > end:
                        raise
                except BrokerError as error:
                    # From _open; what it stands for may pass.
                    if not isinstance(error.__cause__, AWAY) or loop.time() > end:
                        raise
                await asyncio.sleep(0.1)
                self._bus.check_open()

    async def _ask(self, what: str, operation: Callable[[], Awaitable[T]], *, again: bool = False) -> T:
        """As :meth:`_retry`, of few messages: after a loss of the connection run `again`, or a DeadlineError."""
        return await self._retry(what, lambda: self._bus.unanswered.ask(operation, again=again))


@contextmanager
def stream_missing() -> Iterator[None]:
    """Turn "no such stream" into the BucketNotFoundError that makes :class:`Bucket` re-open."""
    try:
        yield
    except js_errors.NotFoundError as error:
        if error.err_code == _STREAM_NOT_FOUND:
            raise js_errors.BucketNotFoundError from None
        raise


async def stop_consumer(consumer: Any) -> None:
    """End an ordered consumer's subscription and its two helper tasks."""
    with suppress(nats.errors.Error, OSError):
        await consumer.unsubscribe()
