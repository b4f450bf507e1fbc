"""uvicorn as the gateway runs it: inside the part's own loop and signals, with bounds on each connection."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from hams_services.gateway.streaming import ABORT
from hams_shared.errors import BadInputError
from hams_shared.runtime.http_protocol import BoundedProtocol
from hams_shared.runtime.listen import check_tls

LINGER_S = 15.0
"""A WebSocket that is closed may take so long for what is not sent yet, and for its client to close, too, s."""
GRACE_S = 10
"""How long requests under way may take when the gateway stops, s."""


class Protocol(BoundedProtocol):
    """A connection of the gateway: its scope holds how to cut it."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]


class Sockets(WebSocketsSansIOProtocol):
    """A WebSocket whose connection ends; uvicorn alone waits without end for a client that takes nothing."""

    _end: asyncio.TimerHandle | None = None
    _lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._lost = True
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """Begin a WebSocket; its task begins later, and finds how to cut the connection."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """End the connection after the application has."""
        super().on_task_complete(task)
        self._linger()

    def keepalive_timeout(self) -> None:
        """End the connection of a client that answers no ping."""
        super().keepalive_timeout()
        self._linger()

    def _linger(self) -> None:
        if self._end is None and not self._lost:
            self._end = self.loop.call_later(LINGER_S, self.transport.abort)


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
        ws=Sockets,
        ws_max_size=1 << 16,  # clients have nothing to send
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(Protocol.bounds.idle_s),
        timeout_graceful_shutdown=GRACE_S,
        **options,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise BadInputError(f"the certificate {certificate} or its key cannot be used: {error}") from None
    return WebServer(config)
