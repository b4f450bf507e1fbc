"""api/live: the system's state as server-sent events; api/self: what the page costs."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hams_services.web.live import ASK_S
from hams_services.web.pictures import MOST_TILES
from hams_services.web.sessions import Session
from hams_services.web.site import Endpoint, Site, answer, session_of
from hams_shared.bus.ask import pipeline_view
from hams_shared.errors import BadInputError, NotFoundError

STREAMING = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers of answers without end; the second keeps nginx from collecting them."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
QUIET_S = 15.0
"""After this long without a state a comment is sent, so that a viewer that went away is found, s."""


async def live(request: Request, site: Site) -> Response:
    """Send the state whenever it was read, until the viewer leaves or its session ends."""
    session = session_of(request)

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"retry: 2000\n\n"
        async with aclosing(site.live.viewer()) as states:
            while lasts(session, site):
                try:
                    async with asyncio.timeout(QUIET_S):
                        state = await anext(states)
                except TimeoutError:
                    return  # the browser connects again
                yield b"event: state\ndata: " + state + b"\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers=STREAMING)


async def pictures(request: Request, site: Site) -> Response:
    """Send the pictures of the streams in the query (``tile=GROUP/STREAM``, several times), until the viewer leaves.

    Streams that are not there are left out; then it ends after `QUIET_S`, so that the browser asks again. Names of
    streams that do not exist would take the places of those that do.

    Raises:
        BadInputError: a tile is no GROUP/STREAM.
        NotFoundError: none of the streams is there.
        OverloadedError: too many streams are looked at.
    """
    wanted = {_tile(text) for text in request.query_params.getlist("tile")[: MOST_TILES + 1]}
    view = await pipeline_view(site.bus, timeout=ASK_S)
    tiles = wanted & {(one.group, one.stream) for one in view.streams}
    if not tiles:
        raise NotFoundError("none of these streams is there", "see the overview")
    site.pictures.check(tiles)
    session, clock = session_of(request), asyncio.get_running_loop().time
    end = clock() + QUIET_S if wanted - tiles else math.inf

    async def records() -> AsyncGenerator[bytes, None]:
        async with aclosing(site.pictures.viewer(tiles)) as found:
            async for record in found:
                if clock() >= end or not lasts(session, site):
                    return
                yield record

    return StreamingResponse(records(), media_type="application/octet-stream", headers=STREAMING)


def lasts(session: Session, site: Site) -> bool:
    """Whether a session has not ended: an open stream keeps it."""
    return not session.id or site.sessions.find(session.id, site.now()) is not None


def _tile(text: str) -> tuple[str, str]:
    group, slash, stream = text.partition("/")
    if not (slash and _NAME.fullmatch(group) and _NAME.fullmatch(stream)):
        raise BadInputError(f"{text[:100]!r} is not GROUP/STREAM")
    return group, stream


async def self_(_: Request, site: Site) -> Response:
    """Answer what this process costs."""
    looking = {"viewers": site.live.viewers, "pictured": site.pictures.streams, "sessions": len(site.sessions)}
    return answer({**site.costs.report(), **looking})


ENDPOINTS = (
    Endpoint("GET", "live", "view", live),
    Endpoint("GET", "pictures", "view", pictures),
    Endpoint("GET", "self", "view", self_),
)
