"""Server-sent events and WebSockets: what goes on for as long as the client stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from hams_client import Event
from hams_services.gateway import failures
from hams_services.gateway.endpoints import EVENTS, Api, failure
from hams_services.gateway.guard import SUBPROTOCOL
from hams_services.gateway.hub import Item, Listener
from hams_services.gateway.limits import Admission
from hams_shared.errors import HamsError, as_hams_error
from hams_shared.runtime.lifecycle import ended

log = logging.getLogger("hams.gateway")

BEAT_S = 15.0
"""After so long without a message a comment is sent, so that proxies keep the connection, s."""
SEND_S = 30.0
"""A client that takes nothing for so long is disconnected, s."""
RETRY_MS = 3000
"""What a browser waits before it connects again, ms."""
AHEAD = f"retry: {RETRY_MS}\n\n".encode()
BEAT = b": \n\n"
ABORT = "hams.abort"
"""In the scope of a request or WebSocket: cuts its connection, whatever still waits to be sent."""
Still = Callable[[], bool]
"""Whether the client may still be here."""


def part(data: bytes, *, id: str = "", event: str = "") -> bytes:
    """Return one message; `data` has no line breaks, as JSON has none."""
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    return b"".join((head.encode(), b"data: ", data, b"\n\n"))


async def batches(listener: Listener, still: Still) -> AsyncGenerator[tuple[int, list[Item]], None]:
    """Yield how many results were lost, and those that follow; neither after `BEAT_S` without a result.

    It ends with the listener, or with the client's right to be here.
    """
    clock = asyncio.get_running_loop().time
    checked = clock()
    while True:
        found: tuple[int, list[Item]] | None = (0, [])
        try:
            async with asyncio.timeout(BEAT_S):
                found = await listener.next()
        except TimeoutError:
            checked = float("-inf")
        if clock() - checked >= BEAT_S:
            checked = clock()
            if not still():
                return
        if found is None:
            return
        yield found


async def result_parts(listener: Listener, still: Still) -> AsyncGenerator[bytes, None]:
    """Yield results, how many were lost before them, and beats."""
    yield AHEAD
    async with aclosing(batches(listener, still)) as found:
        async for lost, items in found:
            parts = [part(b'{"lost":%d}' % lost, event="lost")] if lost else []
            yield b"".join(parts + [part(one.json, id=one.id) for one in items]) or BEAT


async def event_parts(
    events: AsyncGenerator[Event, None], still: Still, end: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """Yield events and beats, until `end` or the client's right ends. A slow client gets them later, and all."""
    yield AHEAD
    closing = asyncio.ensure_future(end.wait())
    async with aclosing(events):
        waiting: asyncio.Task[Event] | None = None
        try:
            while still():
                waiting = waiting or asyncio.ensure_future(_next(events))
                done, _ = await asyncio.wait({waiting, closing}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if closing in done:
                    return
                if waiting not in done:
                    yield BEAT
                    continue
                event, waiting = waiting.result(), None
                yield part(msgspec.json.encode(event.model_dump()), id=str(event.sequence))
        except HamsError as error:
            yield part(msgspec.json.encode(failures.body(error)), event="error")
        finally:
            await ended([closing] if waiting is None else [closing, waiting])


async def _next(events: AsyncGenerator[Event, None]) -> Event:
    return await anext(events)


class EventStream(Response):
    """An answer of server-sent events; it ends with its parts, with the client, or when the client takes nothing."""

    media_type = EVENTS

    def __init__(self, parts: AsyncGenerator[bytes, None], admission: Admission) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._parts = parts
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            with self._admission.stream():
                await self._play(scope, receive, send)
        except HamsError as error:
            await failure(error)(scope, receive, send)

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.ensure_future(self._send(scope, send)), asyncio.ensure_future(_gone(receive))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await ended(tasks)

    async def _send(self, scope: Scope, send: Send) -> None:
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            async with aclosing(self._parts) as parts:
                async for data in parts:
                    if start is not None:  # an error before the first part is an answer of its own
                        await send(start)
                        start = None
                    async with asyncio.timeout(SEND_S):
                        await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.info("a client took nothing for %g s and is disconnected", SEND_S)
            scope.get(ABORT, lambda: None)()


async def _gone(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


WS_PATH = "/v1/groups/{group}/results/ws"


def websocket_route(api: Api) -> WebSocketRoute:
    """Return the route of results over a WebSocket: each message is a result, or ``{"lost": n}``."""

    async def handle(socket: WebSocket) -> None:
        try:
            group, stream = socket.path_params["group"], socket.query_params.get("stream", "*")
            api.guard.of_http(socket.headers).allow("viewer", group)
            await api.directory.stream(group, stream)
            with api.admission.stream():
                async with api.hub.listen(group, stream) as listener:
                    await _talk(socket, listener, lambda: api.guard.still(socket.headers, "viewer", group))
        except HamsError as error:
            await socket.send_denial_response(failure(error))
        except Exception as error:
            log.error("a WebSocket failed", exc_info=error)
            await socket.close(1011, str(as_hams_error(error))[:100])

    return WebSocketRoute(WS_PATH, handle)


async def _talk(socket: WebSocket, listener: Listener, still: Still) -> None:
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    tasks = [asyncio.ensure_future(_send_results(socket, listener, still)), asyncio.ensure_future(_left(socket))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    except TimeoutError:
        log.info("a WebSocket's client took nothing for %g s and is disconnected", SEND_S)
        socket.scope.get(ABORT, lambda: None)()
    except (WebSocketDisconnect, OSError, RuntimeError):
        log.info("a WebSocket's client is gone")
    finally:
        await ended(tasks)


async def _send_results(socket: WebSocket, listener: Listener, still: Still) -> None:
    async with aclosing(batches(listener, still)) as found:
        async for lost, items in found:
            async with asyncio.timeout(SEND_S):
                if lost:
                    await socket.send_text(f'{{"lost":{lost}}}')
                for item in items:
                    await socket.send_text(item.json.decode())
    async with asyncio.timeout(SEND_S):
        if still():
            await socket.close(1001, "the gateway stops")
        else:
            await socket.close(1008, "the token is no longer valid")


async def _left(socket: WebSocket) -> None:
    """Read and forget what the client sends, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
