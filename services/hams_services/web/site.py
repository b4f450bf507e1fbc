"""What the page's requests share: options, the connections to the broker, sessions, the readers, and how to answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from hams_services.web.costs import Costs
from hams_services.web.files import Files
from hams_services.web.limits import ALL_LOGINS, LOGINS, REQUESTS, Limits, Work
from hams_services.web.live import Live
from hams_services.web.options import WebOptions
from hams_services.web.pictures import Pictures
from hams_services.web.sessions import Right, Session, Sessions
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError, InternalError, TooLargeError

M = TypeVar("M", bound=BaseModel)

JSON_BYTES = 1 << 20
"""Most bytes of a JSON body."""


@dataclass
class Site:
    """All of one hams-web."""

    options: WebOptions
    bus: Bus
    """Of hams-web itself: by it the state is read for all viewers."""
    live: Live
    pictures: Pictures
    url: str = ""
    """The broker's, for the connections of sessions."""
    sessions: Sessions = field(default_factory=Sessions)
    connections: dict[str, Bus] = field(default_factory=dict)
    """By id of a session: its own connection, with its own credentials."""
    requests: Limits = field(default_factory=lambda: Limits(REQUESTS))
    logins: Limits = field(default_factory=lambda: Limits(LOGINS))
    all_logins: Limits = field(default_factory=lambda: Limits(ALL_LOGINS, most=1))
    work: Work = field(default_factory=Work)
    costs: Costs = field(default_factory=Costs)
    now: Callable[[], float] = time.monotonic
    """Monotonic time, s."""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """The token of those who are not logged in."""

    @property
    def files(self) -> Files:
        """The files that group files of the page may name."""
        return Files.of(self.options.files)

    def anonymous(self) -> Session:
        """Return what a request without a session may do: everything where there are no credentials."""
        right: Right = "change" if not self.options.credentials else "view" if self.options.public_view else "none"
        role = {"change": "local", "view": "viewer", "none": ""}[right]
        return Session("", self.csrf, "", role, right, began=0.0, seen=0.0)

    def bus_of(self, session: Session) -> Bus:
        """Return the connection on which requests of `session` go."""
        if not self.options.credentials:
            return self.bus
        bus = self.connections.get(session.id)
        if bus is None:
            raise InternalError("this session has no connection to the broker")
        return bus


def actor_of(request: Request) -> str:
    """Return who changes something by the page, for the audit."""
    session = session_of(request)
    return f"{session.user or session.role or 'nobody'}@hams-web"


Handler = Callable[[Request, Site], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One address under api/: who may use it, and how large a body it takes, bytes."""

    method: str
    path: str
    need: Right
    handler: Handler
    body: int = JSON_BYTES


def session_of(request: Request) -> Session:
    """Return the session that sent `request`."""
    found: Session = request.scope["hams.session"]
    return found


def json_bytes(value: Any) -> bytes:
    """Encode plain values, dataclasses and pydantic models."""
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not plain")


def answer(value: Any, status: int = 200) -> Response:
    """Return `value` as JSON."""
    return Response(json_bytes(value), status, {"Cache-Control": "no-store"}, "application/json")


async def body_of(request: Request, limit: int = JSON_BYTES) -> bytes:
    """Return the request's body. Raises TooLargeError beyond `limit` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLargeError(f"the request is larger than {limit >> 10} KiB")
        parts.append(part)
    return b"".join(parts)


async def taken(request: Request, kind: type[M], limit: int = JSON_BYTES) -> M:
    """Return the request's JSON body, checked. Raises BadInputError that names what is wrong."""
    try:
        return kind.model_validate_json(await body_of(request, limit))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors(include_url=False)[:5]
        )
        raise BadInputError(f"the request is not understood: {wrong}") from None
