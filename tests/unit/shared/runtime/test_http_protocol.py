"""What clients may hold of a server: silent and slow connections, those of one address, answers that nobody takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial

import pytest

pytest.importorskip("uvicorn", reason="needs hams[web]")
pytest.importorskip("httptools", reason="needs hams[web]")

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hams_shared.runtime.http_protocol import Bounds, bounded, origin
from hams_shared.runtime.listen import listening
from support.raw_http import talk
from support.wait import until

QUICK = Bounds(4, trusted=(), idle_s=0.5, request_s=0.5, send_s=0.5)
LARGE = 50_000_000
ask = partial(talk, host="127.0.0.1")
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the size of the body, or with much."""
    request = Request(scope, receive)
    if scope["path"] == "/refused":
        await Response("no")(scope, receive, send)
        return
    size = len(await request.body())
    content = bytes(int(scope["path"][1:])) if scope["path"] != "/" else str(size)
    await Response(content)(scope, receive, send)


@asynccontextmanager
async def serving(bounds: Bounds) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """A server with these bounds, and its port."""
    config = uvicorn.Config(
        app, loop="none", lifespan="off", ws="none", log_config=None, http=bounded(bounds), timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    with listening("127.0.0.1", 0) as listener:
        task = asyncio.ensure_future(server._serve([listener]))
        await until(lambda: server.started)
        yield server, listener.getsockname()[1]
        server.should_exit = True
        async with asyncio.timeout(30):
            await task


async def test_silent_connections_make_room() -> None:
    async with serving(replace(QUICK, idle_s=10.0)) as (server, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        await until(lambda: len(server.server_state.connections) == 4)
        assert (await ask(port, GET)).startswith(b"HTTP/1.1 503")
        await until(lambda: not server.server_state.connections)
        assert (await ask(port, GET)).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()


async def test_bytes_between_two_requests_do_not_hold_a_connection() -> None:
    async with serving(QUICK) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(GET)
            assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
            writer.write(b"\r\n")
            async with asyncio.timeout(30):
                assert await reader.read() == b""


async def test_one_address_holds_no_more_than_its_part() -> None:
    for trusted, status in (((), b"503"), (("127.0.0.1",), b"200")):
        async with serving(replace(QUICK, of_one=2, trusted=trusted, idle_s=20.0)) as (server, port):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await until(lambda: len(server.server_state.connections) == 2)
            assert (await ask(port, GET)).startswith(b"HTTP/1.1 " + status)
            for _, writer in held:
                writer.close()


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.9.1.1", ""),
        ("::ffff:127.0.0.1", ""),
        ("::1", ""),
        ("", ""),
    ],
)
def test_who_counts_as_one_client(host: str, client: str) -> None:
    assert origin(host, ("127.0.0.0/8", "::1/128", "10.9.0.0/16")) == client


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
async def test_who_takes_nothing_of_an_answer_is_disconnected(close: bytes) -> None:
    async with serving(QUICK) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        with closing(writer):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (LARGE, close))
            await reader.readline()
            await until(lambda: not server.server_state.connections)


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
async def test_who_takes_an_answer_slowly_gets_it_all(close: bytes) -> None:
    async with serving(replace(QUICK, send_s=5.0)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        with closing(writer):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (LARGE, close))
            size = 0
            async with asyncio.timeout(120):
                for _ in range(12):
                    size += len(await reader.readexactly(2_000_000))
                    await asyncio.sleep(0.6)
                while part := await reader.read(1 << 20):
                    size += len(part)
            assert size > LARGE


async def test_a_long_upload_goes_on_while_enough_of_it_comes() -> None:
    parts = [bytes(10_000)] * 20
    whole = POST % 200_000
    async with serving(replace(QUICK, body_bytes=10_000, request_s=2.0)) as (_, port):
        assert (await ask(port, whole, *parts, pause=0.15)).endswith(b"200000")
    async with serving(replace(QUICK, body_bytes=10_000)) as (_, port):
        slow = await ask(port, whole, *[bytes(100)] * 20, pause=0.1)
        assert b"200 OK" not in slow
        refused = await ask(
            port, whole.replace(b"close", b"keep-alive").replace(b"/ ", b"/refused "), *parts, pause=0.1
        )
        assert refused.count(b"200 OK") <= 1
    async with serving(QUICK) as (_, port):
        assert b"200 OK" not in await ask(port, whole, *parts, pause=0.1)
