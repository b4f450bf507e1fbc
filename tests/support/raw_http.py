"""Bytes to a server as they are, and all that it answers."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

from support.wait import PATIENCE


async def talk(port: int, *parts: bytes, host: str = "localhost", pause: float = 0.0) -> bytes:
    """Send, with a `pause` (s) behind each part, and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection(host, port)
    with closing(writer):
        async with asyncio.timeout(30 * PATIENCE):
            reading = asyncio.ensure_future(_all_of(reader))
            with suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
            return await reading


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, also where it ends by a reset."""
    came = b""
    with suppress(ConnectionError):
        while part := await reader.read(1 << 20):
            came += part
    return came
