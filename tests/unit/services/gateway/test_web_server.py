"""What a client may do to the server of HTTP: endless heads, slow requests, idle connections, WebSockets, no HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs hams[gateway]")
pytest.importorskip("httptools", reason="needs hams[gateway]")
pytest.importorskip("websockets", reason="needs hams[gateway]")

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from hams_services.gateway import streaming, web_server
from hams_services.gateway.hub import Item, Listener
from hams_shared.errors import BadInputError
from hams_shared.runtime.http_protocol import CHUNK_BYTES, HEAD_BYTES, Bounds
from hams_shared.runtime.listen import listening
from support.raw_http import talk
from support.wait import until

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the size of the body."""
    if scope["type"] == "http":
        body = await Request(scope, receive).body()
        await Response(str(len(body)))(scope, receive, send)


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[tuple[web_server.WebServer, int]]:
    """A server, and its port."""
    server = web_server.server(app, None, None)
    server.config.timeout_keep_alive = 1
    listener = listening("localhost", 0, option="--http")
    task = asyncio.ensure_future(server.serve([listener]))
    yield server, listener.getsockname()[1]
    server.should_exit = True
    async with asyncio.timeout(30):
        await task


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(web_server.Protocol, "bounds", Bounds(20))
    async with serving(app) as (_, number):
        yield number


def post(size: int, *, head: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + head + b"Content-Length: %d\r\n\r\n" % size


async def test_bodies_of_each_size_and_form_arrive(port: int) -> None:
    for size in (0, 1, 100_000, 3_000_000):
        assert (await talk(port, post(size), bytes(size))).endswith(b"\r\n\r\n%d" % size)
    chunk = b"100\r\n" + bytes(256) + b"\r\n"
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await talk(port, head, chunk * 4000, b"0\r\n\r\n")).endswith(b"\r\n\r\n1024000")
    two = await talk(port, GET + post(9) + bytes(9))
    assert two.count(b"200 OK") == 2  # pipelined


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET / HTTP/1.1\r\n", b"X: " + b"a" * (HEAD_BYTES + 300_000)),
        (b"GET / HTTP/1.1\r\n", *[b"X%d: %s\r\n" % (n, b"a" * 1000) for n in range(400)]),
        (b"GET /" + b"a" * (HEAD_BYTES + 300_000),),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
            *[b"X: %s\r\n" % (b"a" * 60_000) for _ in range(2 * CHUNK_BYTES // 60_000)],
        ),
    ],
    ids=["one header", "many headers", "path", "trailers"],
)
async def test_endless_heads_are_cut_off(port: int, parts: tuple[bytes, ...]) -> None:
    answer = await talk(port, *parts)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    assert (await talk(port, post(1), b"x")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("parts", [(), (b"GET / HT",), (post(100), b"x"), (GET,)])
async def test_a_client_that_does_not_go_on_is_disconnected(
    port: int, parts: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server.Protocol, "bounds", Bounds(20, idle_s=0.5, request_s=0.5))
    answer = await talk(port, *parts)  # ends when the server closes
    assert answer.startswith(b"HTTP/1.1 200") == (parts == (GET,))


async def test_no_more_than_a_number_of_connections_is_taken(port: int) -> None:
    held = [await asyncio.open_connection("localhost", port) for _ in range(20)]
    assert (await talk(port, GET)).startswith(b"HTTP/1.1 503")
    for _, writer in held:
        writer.close()


class Endless(Listener):
    """Has always results of 1 MB."""

    async def next(self) -> tuple[int, list[Item]] | None:
        """Return one."""
        await asyncio.sleep(0)
        return 0, [Item("s0/0", b"x" * 1_000_000)]


async def following(scope: Scope, receive: Receive, send: Send) -> None:
    """Send results as the gateway does."""
    await streaming._talk(WebSocket(scope, receive, send), Endless(), lambda: True)


async def leaving(scope: Scope, receive: Receive, send: Send) -> None:
    """Send more than fits, and close."""
    socket = WebSocket(scope, receive, send)
    await socket.accept()
    await socket.send_bytes(bytes(50_000_000))


@pytest.mark.parametrize("application", [following, leaving])
async def test_the_connection_of_a_websocket_that_takes_nothing_ends(
    application: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_S", 0.5)
    monkeypatch.setattr(web_server, "LINGER_S", 60.0 if application is following else 0.5)
    async with serving(application) as (server, port):
        reader, writer = await asyncio.open_connection("localhost", port, limit=1000)
        writer.write(UPGRADE)
        assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        assert server.server_state.connections
        await until(lambda: not server.server_state.connections, 20)
        writer.close()


async def test_bytes_that_are_no_http_harm_nobody(port: int) -> None:
    chance = random.Random(3)
    whole = bytearray(post(20, head=b"X: y\r\n") + bytes(20))
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        _, writer = await asyncio.open_connection("localhost", port)
        writer.write(data)
        writer.write_eof()
        writer.close()
    assert (await talk(port, post(1), b"x")).startswith(b"HTTP/1.1 200")


def test_an_address_or_certificate_that_cannot_be_used_is_named(tmp_path: Any) -> None:
    in_use = pytest.raises(BadInputError, match=r"--http: cannot listen on 127.0.0.1:\d+: Address already in use")
    with listening("127.0.0.1", 0, option="--http") as taken, in_use:
        listening("127.0.0.1", taken.getsockname()[1], option="--http")
    with pytest.raises(BadInputError, match="--tls-cert needs --tls-key"):
        web_server.server(app, tmp_path / "c", None)
    (tmp_path / "c").write_text("no certificate")
    with pytest.raises(BadInputError, match="--tls-cert"):
        web_server.server(app, tmp_path / "c", tmp_path / "c")
