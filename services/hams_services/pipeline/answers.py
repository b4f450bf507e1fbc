"""The answers of agents for one stream, from its mailbox and by the broker."""

from __future__ import annotations

from collections.abc import Callable

from hams_shared.bus import chunks
from hams_shared.bus.mailbox import Mailbox
from hams_shared.bus.protocol import Bus, Message, Subscription
from hams_shared.runtime.clock import Clock
from hams_shared.wire.frames import Output, unpack_outputs


class Answers:
    """Puts the parts of answers together, and hands each output to `take`, with the monotonic time, s."""

    def __init__(self, bus: Bus, clock: Clock, mailbox: Mailbox, take: Callable[[Output, float], None]) -> None:
        self._bus, self._clock, self._mailbox, self._take = bus, clock, mailbox, take
        self._parts = chunks.Assembler()

    async def subscribe(self, subject: str) -> Subscription:
        """Take answers from now on."""
        self._mailbox.listen(self._take_part)
        return await self._bus.subscribe(subject, self._on_message, limit=4096)

    async def _on_message(self, message: Message) -> None:
        self._take_part(message.data)

    def _take_part(self, part: bytes) -> None:
        now = self._clock.now()
        data = self._parts.take(part, now)
        if data is not None:
            for output in unpack_outputs(data):
                self._take(output, now)
