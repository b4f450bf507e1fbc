"""The messages of a subscription, as an async iterator."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, Self, TypeVar

from hams_client.arrived import Arrived
from hams_shared.bus.protocol import Bus, Subscription

T = TypeVar("T")

Subscribe = Callable[[Callable[[T], None]], Awaitable[Subscription]]
"""Begins to hand each item to the given function."""


class Feed(Generic[T]):
    """Items as they come: ``async for item in feed``. A slow reader loses the oldest beyond `limit`.

    The subscription begins with the loop and ends with it. To hear all that happens from a certain moment on, or to
    read in several loops, use it as a context: ``async with hams.results("face") as feed`` listens from there on.
    """

    def __init__(self, bus: Bus, subscribe: Subscribe[T], limit: int) -> None:
        self._subscribe = subscribe
        self._arrived: Arrived[T] = Arrived(bus, limit)
        self._subscription: Subscription | None = None

    @property
    def lost(self) -> int:
        """Items that gave way to newer ones."""
        return self._arrived.lost

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[T, None]:
        return self._iterate()

    async def __anext__(self) -> T:
        """The next item; from the first call on it listens until :meth:`aclose`, or the connection's end.

        Raises BrokerError when the connection has ended for good.
        """
        await self._start()
        return await self._arrived.next()

    async def aclose(self) -> None:
        """Stop listening; idempotent."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.unsubscribe()

    async def _start(self) -> None:
        if self._subscription is None:
            self._subscription = await self._subscribe(self._arrived.put)

    async def _iterate(self) -> AsyncGenerator[T, None]:
        own = self._subscription is None
        await self._start()
        try:
            while True:
                yield await self._arrived.next()
        finally:
            if own:
                await self.aclose()
