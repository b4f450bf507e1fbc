"""Work of the page that takes a while: its progress is sent line by line, as JSON, in the answer to its request.

The request owns the work: when the browser leaves, it is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.responses import Response, StreamingResponse

from hams_services.web.limits import Work
from hams_services.web.site import json_bytes
from hams_shared.errors import GroupSpecError, HamsError, as_hams_error

log = logging.getLogger("hams.web")

QUIET_S = 5.0
"""After this long without progress an empty line is sent, so that a browser that left is found, s."""
LEAST_S = 0.2
"""Least time between two lines, s."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Tell = Callable[[str, int, int], None]
"""Receives what is done now, how much of it is done, and of how much (0: unknown); from any thread."""


def error_of(error: HamsError) -> dict[str, Any]:
    """Return an error as the page shows it, with the places of what is wrong in a group file."""
    findings = error.findings if isinstance(error, GroupSpecError) else ()
    return {**error.to_wire(), "findings": [one._asdict() for one in findings]}


def told(work: Work, do: Callable[[Tell], Awaitable[Any]]) -> Response:
    """Answer with the progress of `do`, and then with what it returned, ``done``, or its ``error``."""

    async def lines() -> AsyncGenerator[bytes, None]:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        newest: dict[str, Any] = {}

        def take(what: str, done: int, total: int) -> None:
            newest.update(step=what, done=done, total=total)
            changed.set()

        def tell(what: str, done: int, total: int) -> None:
            loop.call_soon_threadsafe(take, what, done, total)

        with work.taken():
            async with asyncio.TaskGroup() as owner:
                job = owner.create_task(_outcome(do, tell))
                job.add_done_callback(lambda _: changed.set())
                while not job.done():
                    try:
                        async with asyncio.timeout(QUIET_S):
                            await changed.wait()
                    except TimeoutError:
                        yield b"\n"
                        continue
                    changed.clear()
                    if newest and not job.done():
                        yield json_bytes(newest) + b"\n"
                        await asyncio.wait({job}, timeout=LEAST_S)
                yield json_bytes(job.result()) + b"\n"

    with work.taken():  # a refusal has its own status
        pass
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=HEADERS)


async def _outcome(do: Callable[[Tell], Awaitable[Any]], tell: Tell) -> dict[str, Any]:
    try:
        return {"done": await do(tell)}
    except HamsError as error:
        return {"error": error_of(error)}
    except Exception as error:
        log.exception("work of the page failed")
        return {"error": error_of(as_hams_error(error))}
