"""The page's server on real sockets: IPv6, https, and a stop while viewers are connected."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest

from hams_services.security import certificates
from hams_services.web import service
from hams_services.web.options import WebOptions
from hams_services.web.service import WebService
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.errors import BadInputError
from hams_shared.runtime import http_protocol
from hams_shared.runtime.listen import check_tls, listening
from support.ports import has_ipv6
from support.wait import PATIENCE


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
async def test_it_serves_on_ipv6_and_stops_while_a_viewer_reads() -> None:
    sock = listening("::1", 0)
    port = sock.getsockname()[1]
    stop = asyncio.Event()
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner, httpx.AsyncClient(timeout=60) as http:
        serving = owner.create_task(WebService(bus, "", WebOptions("::1", port)).run(stop, sock))
        assert (await http.get(f"http://[::1]:{port}/healthz")).json() == {"state": "alive"}
        async with http.stream("GET", f"http://[::1]:{port}/api/live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            stop.set()
            async with asyncio.timeout(10 * PATIENCE):
                await serving
            with suppress(httpx.HTTPError):
                async for _ in answer.aiter_bytes():
                    pass


async def test_silent_connections_do_not_close_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CONNECTIONS", 3)
    monkeypatch.setattr(service, "Bounds", partial(http_protocol.Bounds, idle_s=10.0))
    sock = listening("127.0.0.1", 0)
    port = sock.getsockname()[1]
    stop = asyncio.Event()
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner, httpx.AsyncClient(timeout=60) as http:
        owner.create_task(WebService(bus, "", WebOptions(port=port)).run(stop, sock))
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 503
        for reader, _ in silent:
            async with asyncio.timeout(60):
                assert await reader.read() == b""
        assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
        for _, writer in silent:
            writer.close()
        stop.set()


async def test_it_answers_pings_of_health_checks() -> None:
    sock = listening("127.0.0.1", 0)
    stop = asyncio.Event()
    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner:
        owner.create_task(WebService(bus, "", WebOptions()).run(stop, sock))
        async with asyncio.timeout(10 * PATIENCE):
            while True:
                with suppress(Exception):
                    assert b"hams-web" in (await bus.request("$SRV.PING.hams-web", b"", timeout=1.0)).data
                    break
                await asyncio.sleep(0.01)
        stop.set()


async def test_it_serves_by_https(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority_key, key = certificates.new_key(), certificates.new_key()
    authority = certificates.authority(authority_key, now)
    (tmp_path / "web.key").write_bytes(key)
    (tmp_path / "web.crt").write_bytes(certificates.broker(key, authority, authority_key, ["127.0.0.1"], now, False))
    sock = listening("127.0.0.1", 0)
    port = sock.getsockname()[1]
    options = WebOptions(port=port, tls_cert=tmp_path / "web.crt", tls_key=tmp_path / "web.key")
    check_tls(options.tls_cert, options.tls_key)
    stop, trust = asyncio.Event(), ssl.create_default_context(cadata=authority.decode())
    async with (
        InMemoryBus(MemoryServer()) as bus,
        asyncio.TaskGroup() as owner,
        httpx.AsyncClient(verify=trust, timeout=60) as http,
    ):
        owner.create_task(WebService(bus, "", options).run(stop, sock))
        answer = await http.get(f"https://127.0.0.1:{port}/")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"]
        stop.set()


def test_what_cannot_be_served_is_named(tmp_path: Path) -> None:
    with listening("127.0.0.1", 0) as taken, pytest.raises(BadInputError, match="another program uses it"):
        listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(BadInputError, match="cannot listen on"):
        listening("no-such-host.invalid", 80)
    (tmp_path / "c").write_text("no certificate")
    for cert in (tmp_path / "c", tmp_path / "absent"):
        with pytest.raises(BadInputError, match="cannot be used"):
            check_tls(cert, cert)
