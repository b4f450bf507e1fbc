"""Serves metrics over HTTP, as text or OpenMetrics, whichever the scraper asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from hams_shared.errors import BadInputError

SILENT_S = 10.0
"""A connection on which nothing is sent, or nothing read, for so long is closed, s: each holds a thread."""
END_S = 5.0


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log no scrapes."""


@contextmanager
def served(collector: Collector, host: str, port: int, silent_s: float = SILENT_S) -> Iterator[int]:
    """Serve what `collector` yields on `host`, an address of IPv4 or IPv6; gives the port, a free one for port 0.

    Raises:
        BadInputError: it cannot listen there.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadInputError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}", "give another --listen HOST:PORT"
        ) from None
    server.RequestHandlerClass = type("Handler", (_Handler,), {"timeout": silent_s})
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(END_S)
        server.server_close()
