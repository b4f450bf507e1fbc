"""The plain interface: groups, an image in and its result out, results and events as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hams_client import Event, GroupSummary
from hams_services.gateway.endpoints import (
    DEADLINE_S,
    EVENTS,
    JSON,
    Api,
    Endpoint,
    body_of,
    json_answer,
    number,
    span_of,
)
from hams_services.gateway.form import FORM, file_of
from hams_services.gateway.guard import Caller
from hams_services.gateway.kserve.model import check_deadline
from hams_services.gateway.streaming import EventStream, event_parts, result_parts
from hams_shared.errors import BadInputError
from hams_shared.wire.results import RESULT


async def groups(api: Api, request: Request, caller: Caller) -> Response:
    """All groups."""
    known = [one.model_dump() for one in await api.directory.all() if caller.sees(one.name)]
    return json_answer({"groups": known})


async def group(api: Api, request: Request, caller: Caller) -> Response:
    """One group."""
    return json_answer((await api.directory.get(request.path_params["group"])).model_dump())


async def infer(api: Api, request: Request, caller: Caller) -> Response:
    """One image through a group."""
    deadline = check_deadline(request.query_params.get("deadline_s", DEADLINE_S))
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON or kind.startswith("text/"):
        raise BadInputError(f"a body of {kind}", "send the bytes of a JPEG or PNG; JSON is for /v2/models/…/infer")
    with api.admission.request() as grow:
        body = await body_of(request, api.max_body, grow)
        image = file_of(content_type, body) if kind == FORM else body
        [result] = await api.inference.run(request.path_params["group"], [image], deadline, span_of(request))
    return Response(msgspec.json.encode(result.data), media_type=JSON)


async def results(api: Api, request: Request, caller: Caller) -> Response:
    """Results as server-sent events."""
    name, stream = request.path_params["group"], request.query_params.get("stream", "*")
    await api.directory.stream(name, stream)
    still = partial(api.guard.still, request.headers, "viewer", name)

    async def parts() -> AsyncGenerator[bytes, None]:
        async with api.hub.listen(name, stream) as listener, aclosing(result_parts(listener, still)) as found:
            async for part in found:
                yield part

    return EventStream(parts(), api.admission)


async def events(api: Api, request: Request, caller: Caller) -> Response:
    """Events as server-sent events; a client that comes back goes on where it was."""
    name, stream = request.path_params["group"], request.query_params.get("stream", "*")
    await api.directory.stream(name, stream)
    after, since = number(request, "after", int), number(request, "since", float)
    last = request.headers.get("last-event-id", "")
    if last:
        if not (last.isascii() and last.isdecimal()) or len(last) > 18:
            raise BadInputError(f"Last-Event-ID is {last[:32]!r}", "it is the id of an event, a number")
        after, since = int(last), None
    found = api.events(name, None if stream == "*" else stream, since=since, after=after)
    still = partial(api.guard.still, request.headers, "viewer", name)
    return EventStream(event_parts(found, still, api.hub.closed), api.admission)


_IMAGE: dict[str, Any] = {"type": "string", "format": "binary"}
_FORM: dict[str, Any] = {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]}
IMAGES = {"image/jpeg": _IMAGE, "image/png": _IMAGE, "application/octet-stream": _IMAGE, FORM: _FORM}
_STREAM = {"stream": "name of one of its streams; default: all"}
_GROUP = GroupSummary.model_json_schema()
_GROUPS = {"type": "object", "required": ["groups"], "properties": {"groups": {"type": "array", "items": _GROUP}}}

ENDPOINTS = [
    Endpoint("GET", "/v1/groups", groups, "The deployed groups", gives={JSON: _GROUPS}),
    Endpoint("GET", "/v1/groups/{group}", group, "One group", gives={JSON: _GROUP}),
    Endpoint(
        "POST",
        "/v1/groups/{group}/infer",
        infer,
        "One image through a group",
        "app",
        query={"deadline_s": "how long to wait, s; default 30"},
        takes=IMAGES,
        gives={JSON: RESULT.json_schema()},
        also=(413, 504),
    ),
    Endpoint(
        "GET",
        "/v1/groups/{group}/results",
        results,
        "Results as they come: `data` of a message is a result; `lost` tells how many a slow client missed",
        query=_STREAM,
        gives={EVENTS: RESULT.json_schema()},
    ),
    Endpoint(
        "GET",
        "/v1/groups/{group}/events",
        events,
        "Events as they come; `id` of each message is its place, and Last-Event-ID goes on behind it",
        query={**_STREAM, "since": "begin with those of the last so many seconds", "after": "begin behind this id"},
        gives={EVENTS: Event.model_json_schema()},
    ),
]
