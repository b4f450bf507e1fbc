"""Somebody between a client and its broker, who takes from the broker's INFO that it wants TLS."""

from __future__ import annotations

import asyncio
import json


class Relay:
    """Passes bytes on both ways, INFO changed, and keeps what clients sent."""

    def __init__(self, port: int, *, strips: bool = True) -> None:
        self.sent = bytearray()
        """All that clients sent."""
        self.strips = strips
        self._port = port
        self._clients = 0
        self._news = asyncio.Event()
        self._links: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.drop()
        await asyncio.sleep(0)  # their tasks end

    async def met(self, count: int) -> None:
        """Wait until clients have come so often from now on."""
        count += self._clients
        while self._clients < count:
            self._news.clear()
            await self._news.wait()

    def drop(self) -> None:
        """Break all connections."""
        _break(self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        self._news.set()
        own = {writer}
        self._links |= own
        try:
            there, out = await asyncio.open_connection("127.0.0.1", self._port)
            own.add(out)
            self._links.add(out)
            if self.strips:
                writer.write(_stripped(await there.readline()))
            async with asyncio.timeout(20), asyncio.TaskGroup() as both:
                both.create_task(self._pass(there, writer))
                both.create_task(self._pass(reader, out, self.sent))
        except* (TimeoutError, OSError, ValueError):
            pass
        finally:
            self._links -= own
            _break(own)  # and no other client's: one that comes again may come before its first connection ends

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray | None = None
    ) -> None:
        while data := await reader.read(65536):
            if seen is not None:
                seen += data
            writer.write(data)
            await writer.drain()
        writer.close()


def _break(links: set[asyncio.StreamWriter]) -> None:
    while links:
        links.pop().transport.abort()


def _stripped(line: bytes) -> bytes:
    info = json.loads(line.removeprefix(b"INFO "))
    for key in ("tls_required", "tls_available", "tls_verify"):
        info.pop(key, None)
    return b"INFO " + json.dumps(info).encode() + b"\r\n"
