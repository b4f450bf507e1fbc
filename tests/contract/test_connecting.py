"""How `hams-ctl` connects: a broker that is busy is waited for; one that is not there, or refuses, is named at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hams_services.ctl import console
from hams_services.ctl.console import bus_at
from hams_shared.errors import BrokerError, CredentialsError
from support.nats_server import NatsServer
from support.ports import free_port

NEVER_S = 3600.0
"""A second attempt would outlast the test."""


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, list[float]]]:
    """Something that takes connections and sends nothing; gives its URL, and when each connection came."""
    came: list[float] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(time.monotonic())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    finally:
        server.close()


async def test_a_broker_that_is_busy_is_waited_for(
    own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "CONNECT_S", 0.5)
    monkeypatch.setattr(console, "BUSY_S", 60.0)
    tried: list[str] = []
    listens = console.broker_listens

    async def listening(urls: str, seconds: float) -> bool | None:
        tried.append(urls)
        own_nats_server.resume()
        return await listens(urls, seconds)

    monkeypatch.setattr(console, "broker_listens", listening)
    own_nats_server.pause()
    async with bus_at(own_nats_server.url) as bus:
        await bus.flush(60)
    assert tried == [own_nats_server.url]  # the first attempt met a broker that does not answer


@pytest.mark.parametrize("url", ["nats://127.0.0.1:{}", "127.0.0.1:{}", "nats://127.0.0.1:{},nats://127.0.0.1:{}"])
async def test_where_nothing_listens_there_is_no_second_attempt(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "CONNECT_S", 0.5)
    monkeypatch.setattr(console, "BUSY_S", NEVER_S)
    with pytest.raises(BrokerError, match=r"no broker at .*127\.0\.0\.1.*hams-ctl up"):
        async with bus_at(url.format(*[free_port()] * url.count("{}"))):
            pass


async def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "BUSY_S", NEVER_S)
    for url in ("", "nats://127.0.0.1:notaport", "nats://[::1"):
        with pytest.raises(BrokerError):
            async with bus_at(url):
                pass


async def test_what_listens_and_is_no_broker_is_named_after_the_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool | None] = []
    listens = console.broker_listens
    async with silent() as (url, came):

        async def look(urls: str, seconds: float) -> bool | None:
            looked.append(await listens(urls, seconds))
            await asyncio.sleep(0.1)  # the look's own connection comes
            came.clear()
            return looked[-1]

        monkeypatch.setattr(console, "broker_listens", look)
        for deadline in (2.0, 10.0, 30.0):  # where it is too short, nothing is met
            monkeypatch.setattr(console, "CONNECT_S", deadline)
            monkeypatch.setattr(console, "BUSY_S", deadline)
            with pytest.raises(BrokerError, match="no broker at"):
                async with bus_at(f"nats://127.0.0.1:{free_port()},{url}"):
                    pass
            if came:
                break
    assert looked
    assert looked[-1]
    assert came  # after the look: the second attempt


async def test_a_refusal_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    async def listens(urls: str, seconds: float) -> bool:
        looked.append(urls)
        return False

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        about = {"server_id": "x", "version": "2.12.0", "proto": 1, "max_payload": 1 << 20, "auth_required": True}
        writer.write(b"INFO " + json.dumps(about).encode() + b"\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"-ERR 'Authorization Violation'\r\n")
        await writer.drain()
        writer.close()

    monkeypatch.setattr(console, "broker_listens", listens)
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        for deadline in (1.0, 10.0, 60.0):  # a refusal that is not seen in time is none
            monkeypatch.setattr(console, "CONNECT_S", deadline)
            looked.clear()
            with pytest.raises(BrokerError) as caught:
                async with bus_at(url):
                    pass
            if isinstance(caught.value, CredentialsError):
                break
    assert "requires credentials" in str(caught.value)
    assert looked == []
