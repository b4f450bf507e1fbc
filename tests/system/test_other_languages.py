"""A reader of results that is not ours: Node with the packages npm has."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.credentials import load
from hams_shared.wire import codec, subjects
from support.nats_server import NatsServer
from support.relay import Relay
from support.up import ROOT, Up

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/node with its packages."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no node and npm here")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "results.mjs"):
        shutil.copy(ROOT / "examples" / "node" / name, folder)
    try:
        done = subprocess.run([npm, "install", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not get the packages within two minutes here")
    if done.returncode:
        pytest.skip(f"npm cannot fetch the packages here: {done.stderr.decode()[-200:]}")
    return folder / "results.mjs"


@pytest.mark.parametrize("written", ["msgpack", "json"])
def test_results_in_node(reader: Path, tmp_path: Path, lossless_face: Path, written: str) -> None:
    group = yaml.safe_load(lossless_face.read_text())
    group["results"] = written
    next(iter(group["streams"].values())).update(loop=True)
    lossless_face.write_text(yaml.safe_dump(group))
    with Up(tmp_path / "home", "openvino:CPU") as up:
        up.ctl("deploy", lossless_face)
        argv = ["node", str(reader), up.url, "face", "3"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        assert all(line.startswith("carphone #") and "face 0." in line for line in lines), lines
        assert "face" in up.ctl("results", "face")  # ours reads both


@pytest.fixture
def site(tmp_path: Path) -> Path:
    set_up_site(tmp_path / "site", [], ["box"], max_payload=MAX_PAYLOAD)
    return tmp_path / "site"


@pytest.fixture
async def greets(site: Path, tmp_path: Path) -> AsyncIterator[int]:
    """Port of a broker of an older site: its configuration does not say handshake_first."""
    server = NatsServer(tmp_path / "older")
    conf = server.store / "nats-server.conf"
    tls = f'tls {{ cert_file: "{site}/broker/broker.crt", key_file: "{site}/broker/broker.key" }}\n'
    conf.write_text(conf.read_text() + tls + f'include "../{site.name}/broker/accounts.conf"\n')
    server.start(ready=False)
    yield server.port
    server.stop(kill=True)


async def read(reader: Path, site: Path, port: int) -> tuple[int | None, str, str]:
    """Let the reader read one result at `port`, where there are some until it ends; exit code and what it said."""
    node = await asyncio.create_subprocess_exec(
        "node",
        str(reader),
        f"nats://127.0.0.1:{port}",
        "face",
        "1",
        env={**os.environ, "HAMS_CREDENTIALS": str(site / "app.creds")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await node.communicate()
    return node.returncode, out.decode(), err.decode()


async def publish(site: Path, port: int) -> None:
    """Publish results until cancelled."""
    data = codec.pack({"stream": "s", "frame": 0, "media_time_s": 0.5, "latency_ms": 1.0, "objects": []})
    async with NatsBus(f"nats://127.0.0.1:{port}", credentials=load(site / "admin.creds"), connect_timeout=15) as bus:
        while True:
            await bus.publish(subjects.result("face", "s"), data)
            await asyncio.sleep(0.1)


async def read_while_published(reader: Path, site: Path, port: int, through: int) -> tuple[int | None, str, str]:
    publishing = asyncio.create_task(publish(site, port))
    try:
        return await read(reader, site, through)
    finally:
        publishing.cancel()


async def test_node_takes_credentials(reader: Path, site: Path, tmp_path: Path, greets: int) -> None:
    async with Broker(tmp_path / "store", secrets=site) as broker:
        for port in (broker.port, greets):
            async with Relay(port, strips=False) as relay:
                code, out, err = await read_while_published(reader, site, port, relay.port)
                assert (code, out) == (0, "s #0 at 0.50 s, 1.0 ms: nothing\n"), err
                assert b"CONNECT" not in relay.sent


async def test_node_sends_nothing_before_tls(
    reader: Path, site: Path, tmp_path: Path, greets: int, own_nats_server: NatsServer
) -> None:
    """Somebody between takes from INFO that the broker wants TLS; or it does not want it at all."""
    async with Broker(tmp_path / "store", secrets=site) as broker:
        for port, strips in ((broker.port, True), (greets, True), (own_nats_server.port, False)):
            async with Relay(port, strips=strips) as relay:
                code, _, err = await read(reader, site, relay.port)
                assert code == 5, err
                assert "error: cannot connect" in err
                assert b"CONNECT" not in relay.sent
