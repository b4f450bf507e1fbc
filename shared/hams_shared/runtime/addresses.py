"""Connects to hosts that others name, by the rules of :mod:`hams_shared.runtime.reach`.

A name is resolved once and all of its addresses are checked; the connection goes to one of these, so that a second
answer of the name server changes nothing. Each redirect is a connection of its own, and checked as the first one.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import urllib.request
from typing import Any

from hams_shared.errors import BadInputError, HamsError
from hams_shared.runtime.reach import VARIABLE, Address, Allowed, Use, allowed, hint, literal, refusal


def operators() -> Allowed:
    """Return what the operator allows by HAMS_ALLOW_PRIVATE_URLS. Raises BadInputError: it cannot be read."""
    try:
        return allowed(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        raise BadInputError(f"{VARIABLE}: {error}", "for example 10.1.0.0/16,mirror.lan, or private") from None


def checked(host: str, use: Use, blame: type[HamsError], addresses: list[Address]) -> None:
    """Raise `blame` where one of `addresses`, those of `host`, is refused."""
    if why := refusal(host, addresses, use, operators()):
        raise blame(why, hint(host))


def check_literal(host: str, use: Use, blame: type[HamsError]) -> None:
    """Raise `blame` where `host` is an address that is refused, or ``localhost``; names are not resolved."""
    address = literal(host)
    if address is None and host.lower().rstrip(".").rpartition(".")[2] == "localhost":
        address = ipaddress.IPv4Address("127.0.0.1")
    if address is not None:
        checked(host, use, blame, [address])


def resolved(host: str, port: int, use: Use, blame: type[HamsError]) -> list[str]:
    """Return the addresses of `host`, as many as the name server has, all of them checked. Blocking.

    Raises:
        HamsError: of the class `blame`: one is refused.
        OSError, UnicodeError: it cannot be resolved.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    texts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    checked(host, use, blame, [ipaddress.ip_address(one.partition("%")[0]) for one in texts])
    return texts


def reachable(host: str, port: int, use: Use, blame: type[HamsError], timeout: float) -> str:
    """Return the address of `host` to connect to: of several the first that accepts a connection within `timeout` s.

    Raises as :func:`resolved`.
    """
    texts = resolved(host, port, use, blame)
    for text in texts[:-1]:
        try:
            with socket.create_connection((text, port), timeout):
                return text
        except OSError:
            continue
    return texts[-1]


def opener(use: Use, blame: type[HamsError], *handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Return what opens ``http:`` and ``https:`` addresses that are not refused; others it does not know.

    A proxy that the operator set (HTTPS_PROXY …) resolves names itself; it gets no address that is refused as written.
    """
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Http(use, blame),
        _Https(use, blame),
        *handlers,
    ):
        director.add_handler(handler)
    return director


class _Checking:
    """How both handlers make connections."""

    def __init__(self, use: Use, blame: type[HamsError]) -> None:
        super().__init__()
        self._use, self._blame = use, blame

    def _connection(self, kind: Any, request: urllib.request.Request) -> Any:
        """Return what makes a connection of `kind` (http.client's class) for `request`."""
        proxied = request.has_proxy() or bool(getattr(request, "_tunnel_host", None))
        if proxied:
            host = getattr(request, "_tunnel_host", None) or urllib.request.Request(request.full_url).host
            check_literal(_bare(str(host)), self._use, self._blame)

        def connect(place: tuple[str, int], timeout: Any = None, source: Any = None) -> socket.socket:
            return self._connected(place, timeout, source)

        def make(host: str, **options: Any) -> http.client.HTTPConnection:
            connection: http.client.HTTPConnection = kind(host, **options)
            if not proxied:
                connection._create_connection = connect  # type: ignore[attr-defined]
            return connection

        return make

    def _connected(self, place: tuple[str, int], timeout: Any, source: Any) -> socket.socket:
        error: OSError | None = None
        for text in resolved(*place, self._use, self._blame):
            try:
                return socket.create_connection((text, place[1]), timeout, source)
            except OSError as caught:
                error = caught
        raise error or OSError(f"{place[0]} has no address")


class _Http(_Checking, urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPConnection, req), req)


class _Https(_Checking, urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPSConnection, req), req)


def _bare(host: str) -> str:
    """Return a host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
