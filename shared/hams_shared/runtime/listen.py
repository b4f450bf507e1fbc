"""Addresses, sockets and certificates of parts that serve HTTP; what is wrong is named before they start."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from urllib.parse import urlsplit

from hams_shared.errors import BadInputError

BROKER_PORT = 4222
"""Of a broker whose URL names none."""


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_address(host: str) -> str:
    """Return the address by which this host reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def answers(host: str, port: int) -> bool:
    """Whether something on this host takes connections there."""
    try:
        _, writer = await asyncio.open_connection(own_address(host), port)
    except OSError:
        return False
    writer.close()
    return True


async def broker_listens(urls: str, seconds: float) -> bool | None:
    """Whether something takes connections at one of these addresses of brokers, separated by commas.

    None: nothing does, but at one it is not known: it did not answer within `seconds`, or that is no address.
    """
    found: bool | None = False
    for url in urls.split(","):
        try:
            where = urlsplit(url.strip() if "//" in url else f"nats://{url.strip()}")
            async with asyncio.timeout(seconds):
                if await answers(where.hostname or "127.0.0.1", where.port or BROKER_PORT):
                    return True
        except (TimeoutError, ValueError):
            found = None
    return found


async def until_answering(host: str, port: int, seconds: float) -> bool:
    """Wait until something on this host takes connections there; False: nothing did within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await answers(host, port):  # noqa: ASYNC110 - another process tells nothing
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


def listening(host: str, port: int, *, option: str = "--listen", dual_stack: bool = False) -> socket.socket:
    """Return a socket that listens on a name or an address, IPv4 or IPv6; port 0: a free one.

    `option` is what the address was given by. With `dual_stack`, `::` takes connections of IPv4, too.

    Raises:
        BadInputError: it cannot listen there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        dual = dual_stack and family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        made = socket.create_server(address, family=family, backlog=512, dualstack_ipv6=dual)
    except OSError as error:
        hint = f"another program uses it: choose another by {option}" if error.errno == errno.EADDRINUSE else ""
        where = host_port(host, port)
        raise BadInputError(f"{option}: cannot listen on {where}: {error.strerror or error}", hint) from None
    # asyncio does so only for sockets whose protocol is named; without it each answer waits 40 ms for an ACK.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


def check_tls(certificate: Path, key: Path) -> None:
    """Raise BadInputError unless certificate and key (PEM) can be read and belong together."""
    import ssl  # not at start-up: most parts use no certificate of their own

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise BadInputError(f"--tls-cert {certificate} and --tls-key {key} cannot be used: {reason}") from None
