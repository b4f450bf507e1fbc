"""How a path of HTTP is served: who may, what it takes and gives, and errors as answers.

One table of :class:`Endpoint` makes the routes and the OpenAPI document.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hams_services.gateway import failures
from hams_services.gateway.directory import Directory
from hams_services.gateway.guard import Caller, Guard
from hams_services.gateway.hub import Hub
from hams_services.gateway.inference import Inference
from hams_services.gateway.limits import MAX_BODY, Admission, Unpacker, check_length
from hams_services.security.tokens import Role
from hams_shared.errors import BadInputError, HamsError, as_hams_error
from hams_shared.wire import trace_context

log = logging.getLogger("hams.gateway")

JSON = "application/json"
EVENTS = "text/event-stream"
DEADLINE_S = 30.0
"""How long an image may take unless the client gives a deadline, s."""


@dataclass(frozen=True)
class Api:
    """What handlers work with."""

    directory: Directory
    inference: Inference
    hub: Hub
    guard: Guard
    admission: Admission
    events: Callable[..., Any]
    """:meth:`hams_client.Hams.events`."""
    max_body: int = MAX_BODY
    root_path: str = ""


Handler = Callable[[Api, Request, Caller], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    summary: str
    role: Role | None = "viewer"
    """Who may; None: everybody, without a token, too."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the query: name and meaning."""
    takes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Body of the request: its JSON Schema by content type."""
    gives: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Body of the answer, in the same way."""
    also: tuple[int, ...] = ()
    """Further statuses it may answer with, beside those of all."""

    def route(self, api: Api) -> Route:
        """Return it as a route."""

        async def handle(request: Request) -> Response:
            try:
                caller = Caller()
                if self.role is not None:
                    caller = api.guard.of_http(request.headers)
                    caller.allow(self.role, request.path_params.get("group", ""))
                return await self.handler(api, request, caller)
            except ClientDisconnect:
                return Response(status_code=499)  # nobody reads it
            except Exception as error:
                return failure(error)

        return Route(self.path, handle, methods=[self.method])


def failure(error: Exception) -> Response:
    """Return an error as an answer."""
    if not isinstance(error, HamsError):
        log.error("a request failed", exc_info=error)
    known = as_hams_error(error)
    return json_answer(failures.body(known), failures.http_status(known), failures.headers(known))


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `value` as JSON."""
    return Response(msgspec.json.encode(value), status, headers, JSON)


async def body_of(request: Request, limit: int, grow: Callable[[int], None]) -> bytes:
    """Return the body of a request, unpacked, of `limit` bytes at most; `grow` is told of each part.

    Raises:
        TooLargeError: it is larger, packed or unpacked.
        BadInputError: its Content-Encoding is not known, or not true.
        OverloadedError: there is no room for it now.
    """
    headers = request.headers
    check_length(headers.get("content-length"), limit)
    unpacker = Unpacker(headers.get("content-encoding", ""), limit)
    parts: list[bytes] = []
    async for part in request.stream():
        if part:
            unpacked = unpacker.feed(part)
            grow(len(unpacked))
            parts.append(unpacked)
    unpacker.end()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def span_of(request: Request) -> str:
    """Return the `traceparent` (W3C) of a request, of whose span the frame's becomes a child; empty: there is none."""
    return trace_context.own(request.headers.get("traceparent", ""))


def number(request: Request, name: str, kind: type[int] | type[float]) -> Any:
    """Return a number of the query, 0 or more; None where there is none. Raises BadInputError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = kind(text) if len(text) <= 32 else -1
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 63:
        raise BadInputError(f"{name}={text[:32]} is no number from 0 on")
    return value
