"""No credentials are sent before TLS, whatever is between a client and its broker."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

import hams_client
from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_shared.bus.nats import connection
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.credentials import load
from support.nats_server import NatsServer
from support.refusals import client_turned_away, turned_away
from support.relay import Relay
from support.up import ROOT
from support.wait import PATIENCE

SAID = "does not ask for TLS"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    set_up_site(tmp_path / "site", [], ["box"], max_payload=MAX_PAYLOAD)
    return tmp_path / "site"


@pytest.fixture
async def broker(site: Path, tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(tmp_path / "store", secrets=site) as running:
        yield running


def is_tls(relay: Relay) -> bool:
    """Whether all that clients sent is TLS."""
    return bytes(relay.sent[:1]) == b"\x16"


async def test_the_broker_of_a_site_takes_tls_first(broker: Broker, site: Path) -> None:
    async with (
        Relay(broker.port, strips=False) as relay,
        NatsBus(f"tls://127.0.0.1:{relay.port}", credentials=load(site / "admin.creds")) as bus,
    ):
        await bus.flush()
        assert is_tls(relay)
        assert b"CONNECT" not in relay.sent


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_a_relay_that_strips_tls_gets_nothing(
    broker: Broker, site: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Relay(broker.port) as relay:
        await turned_away(f"{scheme}://127.0.0.1:{relay.port}", SAID, load(site / "admin.creds"))
        assert b"CONNECT" not in relay.sent

        def client(deadline: float) -> AbstractAsyncContextManager[hams_client.Hams]:
            monkeypatch.setattr(connection, "CONNECT_S", deadline)
            return hams_client.connect(f"{scheme}://127.0.0.1:{relay.port}", credentials=site / "app.creds")

        await client_turned_away(client, SAID)
        assert b"CONNECT" not in relay.sent


async def test_a_relay_that_comes_between_later_gets_nothing(broker: Broker, site: Path) -> None:
    """The connection breaks, and the next one meets the relay."""
    relay = Relay(broker.port, strips=False)
    async with relay, NatsBus(f"nats://127.0.0.1:{relay.port}", credentials=load(site / "admin.creds")) as bus:
        await bus.flush()
        relay.strips = True
        relay.sent.clear()
        relay.drop()
        async with asyncio.timeout(30 * PATIENCE):
            await relay.met(4)  # attempts, of which the second and later ones are of the old way
        assert not bus.connected
        assert b"CONNECT" not in relay.sent
        relay.strips = False
        await bus.flush(90)


async def test_tls_without_credentials_is_no_less(tmp_path: Path, nats_server: NatsServer) -> None:
    """A broker that speaks no TLS at all, by a tls:// address."""
    async with Relay(nats_server.port, strips=False) as relay:
        await turned_away(f"tls://127.0.0.1:{relay.port}", SAID)
        assert b"CONNECT" not in relay.sent


async def test_a_cluster_that_greets_before_tls_goes_on_working(site: Path, tmp_path: Path) -> None:
    """As an existing one does, whose configuration does not say handshake_first."""
    accounts = f"../{site.name}/broker/accounts.conf"  # nats-server takes the path as relative to its file
    admin = load(site / "admin.creds")
    server = NatsServer(tmp_path / "nats")
    conf = tmp_path / "nats" / "nats-server.conf"
    tls = f'tls {{ cert_file: "{site}/broker/broker.crt", key_file: "{site}/broker/broker.key" }}\n'
    conf.write_text(conf.read_text() + tls + f'include "{accounts}"\n')
    server.start(ready=False)
    try:
        async with (
            Relay(server.port, strips=False) as relay,
            NatsBus(
                f"nats://127.0.0.1:{relay.port}", credentials=load(site / "admin.creds"), connect_timeout=15
            ) as bus,
        ):
            await bus.flush()
            assert b"CONNECT" not in relay.sent
        async with Relay(server.port) as relay:
            await turned_away(f"nats://127.0.0.1:{relay.port}", SAID, admin)
            assert b"CONNECT" not in relay.sent
    finally:
        server.stop(kill=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "user", "arguments"),
    [
        ("hams_services.ctl", "admin", ["status"]),
        ("hams_scheduler", "scheduler", []),
        ("hams_services.pipeline", "pipeline", []),
        ("hams_services.optimizer", "optimizer", []),
        ("hams_agents", "agent-box", ["--device", "openvino:CPU", "--host", "box"]),
    ],
)
async def test_every_part_refuses(broker: Broker, site: Path, module: str, user: str, arguments: list[str]) -> None:
    async with Relay(broker.port) as relay:
        environment = {
            **os.environ,
            "HAMS_NATS_URL": f"nats://127.0.0.1:{relay.port}",
            "HAMS_CREDENTIALS": str(site / f"{user}.creds"),
        }
        for _ in range(3):
            part = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *arguments, env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
            )
            async with asyncio.timeout(90):
                _, said = await part.communicate()
            if b"no broker at" not in said:  # else this machine was too slow for its deadline of 5 s
                break
        assert SAID in said.decode(), said.decode()
        assert part.returncode
        assert b"CONNECT" not in relay.sent


def test_nothing_else_makes_connections() -> None:
    """One module makes nats-py's clients."""
    makers = {
        path.name
        for folder in ("services", "scheduler", "agents", "shared")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\b(nats\.connect\(|Client\(\))", path.read_text())
    }
    assert makers == {"connection.py"}
