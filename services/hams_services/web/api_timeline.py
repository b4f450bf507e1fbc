"""api/history: what happened and why, from what the broker has stored, and on as it happens; server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hams_client import Hams
from hams_services.web.api_state import QUIET_S, STREAMING, lasts
from hams_services.web.site import Endpoint, Site, json_bytes, session_of
from hams_shared.errors import BadInputError, HamsError

LONGEST_S = 31 * 86_400.0
"""The furthest back that may be asked for, s; the broker keeps a month."""


async def history(request: Request, site: Site) -> Response:
    """Send the entries of the last `since` s, or behind the sequence `Last-Event-ID`, and then new ones."""
    place = beginning(request.query_params.get("since", "3600"), request.headers.get("last-event-id", ""))
    entries = Hams(site.bus).history(follow=True, **place)
    session = session_of(request)

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"retry: 2000\n\n"
        async with aclosing(entries):
            coming = asyncio.ensure_future(anext(entries))
            try:
                while lasts(session, site):
                    await asyncio.wait({coming}, timeout=QUIET_S)
                    if not coming.done():
                        yield b": quiet\n\n"
                        continue
                    entry = coming.result()
                    yield b"id: %d\nevent: entry\ndata: %b\n\n" % (entry.sequence, json_bytes(entry))
                    coming = asyncio.ensure_future(anext(entries))
            except HamsError as error:
                yield b"event: trouble\ndata: " + json.dumps(error.to_wire()).encode() + b"\n\n"
            finally:
                coming.cancel()
                await asyncio.wait({coming})

    return StreamingResponse(events(), media_type="text/event-stream", headers=STREAMING)


def beginning(since: str, last: str) -> dict[str, Any]:
    """Return where the history begins: behind the entry `last`, where that is a sequence. Raises BadInputError."""
    seconds = _since(since)
    known = last.isascii() and last.isdigit() and len(last) <= 18
    return {"after": int(last)} if known else {"since": seconds}


def _since(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_S:
        raise BadInputError(f"since={text[:40]!r} is not a number of seconds, at most {LONGEST_S:.0f}")
    return seconds


ENDPOINTS = (Endpoint("GET", "history", "view", history),)
