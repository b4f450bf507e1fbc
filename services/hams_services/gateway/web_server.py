"""uvicorn as the gateway runs it: inside the part's own loop and signals, with bounds that uvicorn itself has not."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hams_services.gateway.streaming import ABORT
from hams_shared.errors import BadInputError
from hams_shared.runtime.listen import check_tls

HEAD_BYTES = 64 << 10
"""Most bytes of a request beside its body: headers, and what chunks and trailers cost."""
CHUNK_BYTES = 1 << 20
"""Beyond HEAD_BYTES, as much as the body is large may go for chunks, up to this."""
BUFFER = 1 << 20
"""Of a body, as much may wait for the application before its client has to, bytes."""
REQUEST_S = 60.0
"""A request has come completely after so long, or its connection is closed, s."""
IDLE_S = 20.0
"""A connection without a request is closed after so long, s."""
CONNECTIONS = 1024
"""Most connections at a time."""
GRACE_S = 10
"""How long requests under way may take when the gateway stops, s."""
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """A connection that may not stay without a request, send one for ever, or send endless headers."""

    _timer: asyncio.TimerHandle | None = None
    _beside = 0
    """Bytes of the present request beside its body."""
    _body = 0
    _body_before = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.write(_FULL)
            transport.close()
            return
        self._wait(IDLE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; where too many are not of a body, answer with an error and close."""
        before = self._body
        super().data_received(data)
        self._beside += len(data) - (self._body - before)
        if self._beside > HEAD_BYTES + min(self._body - self._body_before, CHUNK_BYTES) and self.parser is not None:
            self.send_400_response("The headers of the request are too large.")

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._beside, self._body_before = 0, self._body
        self._wait(REQUEST_S)
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

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

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection on."""
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, at once where its client does not even take the last answer."""
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


class WebServer(uvicorn.Server):
    """A server that leaves signals to the part."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def server(app: ASGIApp, certificate: Path | None, key: Path | None) -> WebServer:
    """Return a server for `app`; with TLS where there is a certificate. Raises BadInputError: it cannot be read."""
    for name in ("uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if certificate is not None:
        if key is None:
            raise BadInputError("--tls-cert needs --tls-key")
        check_tls(certificate, key)
        options = {"ssl_certfile": certificate, "ssl_keyfile": key}
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="websockets-sansio",
        ws_max_size=1 << 16,  # clients have nothing to send
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=GRACE_S,
        **options,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise BadInputError(f"the certificate {certificate} or its key cannot be used: {error}") from None
    return WebServer(config)
