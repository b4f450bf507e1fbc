"""A connection of uvicorn with bounds that uvicorn itself has not, for the parts that serve HTTP.

It needs uvicorn and httptools, of the extras `web` and `gateway`: only those parts import it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
"""Most bytes of a request beside its body: headers, and what chunks and trailers cost."""
CHUNK_BYTES = 1 << 20
"""Beyond HEAD_BYTES, as much as the body is large may go for chunks, up to this."""
BUFFER = 1 << 20
"""Of a body, as much may wait for the application before its client has to, bytes."""
TAKES = 16 << 10
"""A client that is behind with an answer takes at least so much of it in `Bounds.send_s`, bytes."""
LOOPBACK = ("127.0.0.0/8", "::1/128")
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Bounds:
    """What the clients of one server may hold."""

    connections: int = 1024
    """Most connections at a time."""
    of_one: int | None = None
    """Most connections of one IPv4 address or IPv6 network of 64 bits; None: no bound."""
    trusted: tuple[str, ...] = LOOPBACK
    """Networks, for example of proxies, to which `of_one` does not apply."""
    idle_s: float = 20.0
    """A connection without a request is closed after so long, s."""
    request_s: float = 60.0
    """A request has come completely after so long, or its connection is closed, s."""
    body_bytes: int | None = None
    """A request may take longer while so much of its body comes in each `request_s`, bytes; None: it may not."""
    send_s: float = 30.0
    """A client that takes nothing of an answer for so long is disconnected, s."""


def origin(host: str, trusted: Iterable[str] = LOOPBACK) -> str:
    """Return what counts as one client: the IPv4 address, or the IPv6 network of 64 bits; empty: it is not counted."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    address = getattr(found, "ipv4_mapped", None) or found
    if any(address in ipaddress.ip_network(one, strict=False) for one in trusted):
        return ""
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))


class BoundedProtocol(HttpToolsProtocol):
    """A connection that may not stay without a request, send one for ever, send endless headers, or take nothing."""

    bounds: ClassVar[Bounds] = Bounds()
    origin = ""
    """Which client it is; see :func:`origin`."""
    _timer: asyncio.TimerHandle | None = None
    """What waits for the client to send."""
    _taking: asyncio.TimerHandle | None = None
    """What waits for the client to take a part of an answer."""
    _unsent = 0
    """Bytes of the answer that waited when that began."""
    _beside = 0
    """Bytes of the present request beside its body."""
    _body = 0
    _body_before = 0
    _body_checked = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        self.origin = origin(self.client[0], self.bounds.trusted) if self.client else ""
        if self._too_many():
            transport.write(_FULL)
            transport.close()
            return
        self._wait(self.bounds.idle_s)

    def _too_many(self) -> bool:
        if len(self.connections) > self.bounds.connections:
            return True
        if self.bounds.of_one is None or not self.origin:
            return False
        of_it = [one for one in self.connections if getattr(one, "origin", "") == self.origin]
        return len(of_it) > self.bounds.of_one

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._stop_taking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; where too many are not of a body, answer with an error and close."""
        before = self._body
        super().data_received(data)
        self._beside += len(data) - (self._body - before)
        if self._beside > HEAD_BYTES + min(self._body - self._body_before, CHUNK_BYTES) and self.parser is not None:
            self.send_400_response("The headers of the request are too large.")
        elif self._timer is None and self.cycle is not None and self.cycle.response_complete:
            self._wait(self.bounds.idle_s)  # bytes between two requests end uvicorn's own timer

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._beside, self._body_before, self._body_checked = 0, self._body, self._body
        self._stop_waiting()
        self._timer = self.loop.call_later(self.bounds.request_s, self._late)
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; the application is woken once it is whole, or large."""
        self._body += len(body)
        cycle = self.cycle
        if cycle.response_complete or self.parser.should_upgrade():
            super().on_body(body)
            return
        cycle.body += body
        if len(cycle.body) > BUFFER:
            self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End a request."""
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer; its client has to take what is not sent yet."""
        super().on_response_complete()
        if self.transport.is_closing() and self._taking is None:
            self._take()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection on."""
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, at once where its client has not even taken the end of the last answer."""
        if self._taking is None:
            self._cut()
        else:  # it still takes the last answer
            self.timeout_keep_alive_task = self.loop.call_later(self.bounds.idle_s, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """Let the application wait, as the client is behind with an answer."""
        super().pause_writing()
        self._take()

    def resume_writing(self) -> None:
        """Let the application go on."""
        if self.transport.is_closing():
            self._take()
        else:
            self._stop_taking()
        super().resume_writing()

    def _take(self) -> None:
        self._stop_taking()
        self._unsent = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.bounds.send_s, self._check_taking)

    def _check_taking(self) -> None:
        """Cut the connection of a client that has taken next to nothing."""
        if self._unsent - self.transport.get_write_buffer_size() < TAKES:
            self.transport.abort()
        else:
            self._take()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _late(self) -> None:
        """Cut the connection of a request that is not complete, unless enough of a body comes that is read."""
        came, self._body_checked = self._body - self._body_checked, self._body
        least, cycle = self.bounds.body_bytes, self.cycle
        if least is not None and came >= least and cycle is not None and not cycle.response_complete:
            self._timer = self.loop.call_later(self.bounds.request_s, self._late)
        else:
            self._cut()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._cut)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def bounded(bounds: Bounds) -> type[BoundedProtocol]:
    """Return the protocol of a server with these bounds, for `uvicorn.Config(http=…)`."""
    return type("Bounded", (BoundedProtocol,), {"bounds": bounds})
