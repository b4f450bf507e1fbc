"""A client of an ASGI application, in its process: requests, streams that it may read slowly, WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from hams_shared.runtime.lifecycle import ended

LOCAL = {"host": "localhost:8000"}


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One request or WebSocket. While `reads` is not set the application waits to send, as with a slow client."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        self.sent.put_nowait(message)

    async def message(self, within: float = 30) -> dict[str, str]:
        """The next server-sent event, as a map of its fields; a comment has the field "" only."""
        async with asyncio.timeout(within):
            while b"\n\n" not in self._rest:
                self._rest += (await self.sent.get())["body"]
        text, _, self._rest = self._rest.partition(b"\n\n")
        return dict(line.split(": ", 1) for line in text.decode().split("\n"))

    _rest = b""

    async def text(self, within: float = 30) -> Any:
        """The next message of a WebSocket, which is JSON."""
        async with asyncio.timeout(within):
            return json.loads((await self.sent.get())["text"])


def _scope(kind: str, path: str, headers: Mapping[str, str], method: str = "GET") -> dict[str, Any]:
    path, _, query = path.partition("?")
    lines = [(name.lower().encode(), value.encode()) for name, value in {**LOCAL, **headers}.items()]
    scope = {"type": kind, "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode()}
    scope |= {"headers": lines, "method": method, "scheme": "http" if kind == "http" else "ws", "root_path": ""}
    if kind == "websocket":
        offered = headers.get("sec-websocket-protocol", "")
        scope |= {"subprotocols": [one.strip() for one in offered.split(",") if one]}
        scope |= {"extensions": {"websocket.http.response": {}}}
    return {**scope, "http_version": "1.1", "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1)}


class Client:
    """Sends requests to `app`, with `headers` of its own in each."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str] | None = None) -> None:
        self._app = app
        self._headers = headers or {}

    @asynccontextmanager
    async def open(
        self, path: str, headers: Mapping[str, str] | None = None, kind: str = "http"
    ) -> AsyncIterator[Connection]:
        """A request that goes on; the client leaves at the end of the block."""
        found = Connection()
        scope = _scope(kind, path, {**self._headers, **(headers or {})})
        if kind == "websocket":
            found.to_app.put_nowait({"type": "websocket.connect"})
        else:
            found.to_app.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        task = asyncio.ensure_future(self._app(scope, found.to_app.get, found.send))
        try:
            yield found
            found.to_app.put_nowait({"type": f"{kind}.disconnect"})
            async with asyncio.timeout(30):
                await task
        finally:
            await ended([task])

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, its body in one part or several, and return the answer."""
        parts = [body] if isinstance(body, bytes) else list(body)
        messages = [
            {"type": "http.request", "body": part, "more_body": number + 1 < len(parts)}
            for number, part in enumerate(parts)
        ]
        answer = Answer()

        async def receive() -> Message:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await self._app(_scope("http", path, {**self._headers, **(headers or {})}, method), receive, send)
        return answer

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.request("GET", path, headers=headers)

    async def post(
        self, path: str, body: bytes | Sequence[bytes] = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await self.request("POST", path, body, headers)
