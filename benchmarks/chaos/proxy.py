"""A link between one part and its broker that can be half open, cut, late or lossy.

It carries TCP, so what a lossy network does to packets is shown as TCP shows it: bytes come in order, late by a
retransmission. Messages of different parts overtake each other.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

RETRANSMIT_S = 0.2
"""What Linux waits at least before it sends a packet again, s; doubled for each further loss."""
CHUNK = 65536


@dataclass(frozen=True)
class Weather:
    """How the link is."""

    open: bool = True
    """False: half open; nothing passes and nobody is told."""
    refuses: bool = False
    """Connections are reset, and new ones refused."""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the delay of each packet, evenly from 0; what comes later waits for it, as in TCP."""
    loss: float = 0.0
    """Share of packets that are sent again."""


CLEAR = Weather()


class Link:
    """Listens on a port of its own and connects to `broker`."""

    def __init__(self, broker: int, seed: int) -> None:
        self.port = 0
        self._broker = broker
        self._chance = random.Random(seed)
        self._weather = CLEAR
        self._clear = asyncio.Event()
        self._clear.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Reset all connections and listen no more."""
        if self._server is not None:
            self._server.close()
        self._reset()
        await asyncio.sleep(0)

    def set(self, weather: Weather) -> None:
        """Change how the link is."""
        self._weather = weather
        if weather.open:
            self._clear.set()
        else:
            self._clear.clear()
        if weather.refuses:
            self._reset()

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = {writer}
        self._writers |= own
        try:
            if self._weather.refuses:
                return
            await self._clear.wait()
            there, out = await asyncio.open_connection("127.0.0.1", self._broker)
            own.add(out)
            self._writers.add(out)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(there, writer))
                both.create_task(self._pass(reader, out))
        except* (OSError, ValueError):
            pass
        finally:
            self._writers -= own
            for one in own:
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes until one side ends; then the other does."""
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                late = self._late_s()
                if late:
                    await asyncio.sleep(late)
                await self._clear.wait()
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError

    def _late_s(self) -> float:
        weather = self._weather
        late = weather.delay_s + weather.jitter_s * self._chance.random()
        wait = RETRANSMIT_S
        while weather.loss and self._chance.random() < weather.loss and wait < 2:
            late += wait
            wait *= 2
        return late
