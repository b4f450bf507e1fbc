"""Who may do what: tokens, and without them only programs and pages of this machine."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hams_services.security.tokens import Role, Token, TokenFile
from hams_shared.errors import BadInputError, ForbiddenError, UnauthenticatedError

log = logging.getLogger("hams.gateway")

SUBPROTOCOL = "hams"
"""Of WebSockets. A page cannot send headers with one, so that its token may come as the subprotocol bearer.TOKEN."""
_BEARER = "bearer."


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and cannot be reached from another one."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_listen(option: str, host: str, tokens: TokenFile) -> None:
    """Raise BadInputError when others could reach `host` and no token is needed."""
    if not is_loopback(host) and not tokens.used:
        raise BadInputError(
            f"{option} {host} can be reached from other machines, and no tokens are set",
            f"make one: hams-ctl token add NAME --role app --tokens {tokens.path}",
        )


@dataclass(frozen=True)
class Caller:
    """Who sends a request; without tokens anybody on this machine."""

    token: Token | None = None

    def allow(self, role: Role, group: str = "") -> None:
        """Raise ForbiddenError unless it may."""
        if self.token is not None:
            self.token.allow(role, group)

    def sees(self, group: str) -> bool:
        """Whether it may know of `group`."""
        return self.token is None or self.token.sees(group)


class Guard:
    """Lets requests in, or not."""

    def __init__(self, tokens: TokenFile, origins: tuple[str, ...] = ()) -> None:
        self._tokens = tokens
        self._origins = origins

    def of_http(self, headers: Mapping[str, str]) -> Caller:
        """Return who sends a request with these headers (names in lower case).

        Raises:
            UnauthenticatedError: it has no valid token.
            ForbiddenError: no tokens are used, and a browser sends it for a page of another site.
        """
        if self._tokens.used:
            return Caller(self._tokens.check(_bearer(headers.get("authorization", "")) or _of_socket(headers)))
        host = _host(f"//{headers.get('host', '')}")
        if not is_loopback(host):  # DNS rebinding: a page whose name has become the address of this machine
            raise ForbiddenError(f"without tokens the gateway is not for {host[:64] or 'nobody'}", "ask localhost")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not is_loopback(_host(origin)):
            raise ForbiddenError(f"the page {origin[:64]} may not use this gateway", "see --allow-origin")
        return Caller()

    def of_grpc(self, authorization: str) -> Caller:
        """Return who calls with this ``authorization``. Raises UnauthenticatedError."""
        return Caller(self._tokens.check(_bearer(authorization))) if self._tokens.used else Caller()

    def still(self, headers: Mapping[str, str], role: Role, group: str) -> bool:
        """Whether a request that goes on for long would still be let in."""
        try:
            self.of_http(headers).allow(role, group)
        except (UnauthenticatedError, ForbiddenError) as error:
            log.info("a client is sent away: %s", error)
            return False
        return True


def _host(url: str) -> str:
    """Return the host of `url`, empty where it has none or is no URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _of_socket(headers: Mapping[str, str]) -> str:
    offered = [one.strip() for one in headers.get("sec-websocket-protocol", "").split(",")]
    return next((one.removeprefix(_BEARER) for one in offered if one.startswith(_BEARER)), "")
