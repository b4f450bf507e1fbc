"""nats-py's client with names of inboxes that nobody can predict, and TLS before any credentials are sent.

A broker's first word, INFO, travels in clear text; who sits between can remove from it that the broker wants TLS, and
nats-py would then send CONNECT in clear text. So:

- TLS comes first where the broker takes it so (``handshake_first`` in nats-server's ``tls`` block, as `hams-ctl init`
  writes it): there is no INFO in clear text.
- A broker that greets at once, in clear text, is asked again the old way, INFO first. One whose INFO does not require
  TLS is refused: CONNECT is not sent.
"""

from __future__ import annotations

import secrets
import ssl
from typing import Any

import nats.errors
from nats.aio.client import Client

NO_TLS = "does not ask for TLS"


class NoTlsError(nats.errors.Error):  # type: ignore[misc]
    """The broker would accept a connection in clear text."""

    def __str__(self) -> str:
        return f"nats: the broker {NO_TLS}"


class _Unguessable:
    """Names of inboxes and requests. nats-py's own count up: who has got one request could answer the next ones."""

    def next(self) -> bytearray:
        """Return a name in 22 letters, as many as nats-py expects."""
        return bytearray(secrets.token_hex(11).encode())


class TlsClient(Client):  # type: ignore[misc]
    """A client that sends CONNECT over TLS, or not at all."""

    _transport: Any
    _pending: Any
    _flusher_task: Any
    _reading_task: Any
    _ping_interval_task: Any

    def __init__(self) -> None:
        super().__init__()
        self._nuid = _Unguessable()
        self._greets: set[str] = set()
        """Brokers, as host:port, that send INFO before TLS; bounded by the brokers there are."""

    async def _process_connect_init(self) -> None:
        broker = self._current_server.uri.netloc
        self.options["tls_handshake_first"] = broker not in self._greets
        try:
            await super()._process_connect_init()
        except BaseException as error:
            if self.options["tls_handshake_first"] and _no_handshake(error):
                self._greets.add(broker)
            self._forget_transport()
            raise

    def _forget_transport(self) -> None:
        """Close what has failed: nats-py would wait without end for the stream that TLS was to replace."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport._io_writer.transport.abort()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        handshake_first = self.options["tls_handshake_first"]
        if initial_connection and not handshake_first and not info.get("tls_required"):
            raise NoTlsError
        await super()._process_info(info, initial_connection)


def _no_handshake(error: BaseException) -> bool:
    """Whether the other side's answer was no TLS handshake; one with a wrong certificate is a handshake."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError)
