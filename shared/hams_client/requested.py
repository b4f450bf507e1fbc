"""Requests for what comes only while it is requested: they are repeated, since each holds for a while only."""

from __future__ import annotations

import asyncio
import logging

from hams_shared.bus.protocol import Bus, Subscription
from hams_shared.errors import HamsError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire.messages.pipeline import REQUEST_LEASE_S

log = logging.getLogger("hams.client")


async def repeat(bus: Bus, subject: str, data: bytes, every: float = REQUEST_LEASE_S / 3) -> None:
    """Send a request again and again, since each holds for a while only; without a broker, later.

    Ends with the connection.
    """
    while not bus.closed:
        try:
            await bus.publish(subject, data)
        except HamsError as error:
            log.warning("cannot send a request on %s: %s", subject, error)
        await asyncio.sleep(every)


class Requested:
    """A subscription to what comes only while it is requested."""

    def __init__(self, subscription: Subscription, bus: Bus, subject: str, data: bytes) -> None:
        self._subscription = subscription
        self._asking = asyncio.create_task(repeat(bus, subject, data))

    @property
    def dropped(self) -> int:
        """As of the subscription."""
        return self._subscription.dropped

    async def unsubscribe(self) -> None:
        """Request no more, and stop receiving."""
        await ended([self._asking])
        await self._subscription.unsubscribe()
