"""`hams-ctl sink mqtt` as a process: killed, over TLS, with wrong certificates; secrets stay secret."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.credentials import load
from support.mosquitto import Mosquitto, Watcher, installed, mosquitto, password_file
from support.mqtt_site import Site, happened, site_on
from support.nats_server import NatsServer, own_nats_server
from support.wait import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

__all__ = ["mosquitto", "own_nats_server"]

COUNT = "hams/yard/cam/zone/entrance/count"
PASSWORD = "c0rrect-horse"


@pytest.fixture
async def site(own_nats_server: NatsServer) -> AsyncIterator[Site]:
    async with NatsBus(own_nats_server.url) as bus, site_on(bus) as made:
        yield made


def bridge(server: NatsServer, broker: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hams_services.ctl", "sink", "mqtt", "--all", "--broker", broker, *options]
    return subprocess.Popen(
        [*command, "--nats", server.url],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = await asyncio.to_thread(process.communicate, timeout=120)
    return process.returncode, err


async def until_is(watcher: Watcher, topic: str, payload: bytes) -> None:
    await until(lambda: watcher.retained.get(topic) == payload, timeout=30, what=f"{topic} {payload!r}")


async def test_a_killed_bridge_is_offline_and_its_successor_goes_on(
    own_nats_server: NatsServer, site: Site, mosquitto: Mosquitto
) -> None:
    watcher = Watcher(mosquitto)
    try:
        process = bridge(own_nats_server, mosquitto.url)
        await until_is(watcher, "hams/status", b"online")
        await site.happen(happened("new", 1), happened("zone_entered", 1, zone="entrance", zones=("entrance",)))
        await until_is(watcher, COUNT, b"1")
        process.kill()
        await ended(process)
        await until_is(watcher, "hams/status", b"offline")
        await site.happen(happened("new", 2), happened("zone_entered", 2, zone="entrance", zones=("entrance",)))
        process = bridge(own_nats_server, mosquitto.url)
        await until_is(watcher, "hams/status", b"online")
        await until_is(watcher, COUNT, b"2")
        process.send_signal(signal.SIGINT)
        code, err = await ended(process)
        assert code == 0, err
        assert f"connected to {mosquitto.url}" in err
        await until_is(watcher, "hams/status", b"offline")
    finally:
        watcher.close()


def certificates(folder: Path) -> None:
    """An authority, and the broker's certificate by it; another authority."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1",
        "-keyout", "broker.key", "-out", "broker.csr",
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
        "-extfile", "names", "-out", "broker.pem",
    )  # fmt: skip


async def test_tls_and_password(own_nats_server: NatsServer, site: Site, tmp_path: Path) -> None:
    installed()  # else it skips, before anything is made
    folder = tmp_path / "broker"
    folder.mkdir()
    await asyncio.to_thread(certificates, folder)
    passwords = await asyncio.to_thread(password_file, folder, "hams", PASSWORD)
    tls = ("cafile", "certfile", "keyfile")
    files = dict(zip(tls, ("ca.pem", "broker.pem", "broker.key"), strict=True))
    lines = [f"{key} {folder / file}" for key, file in files.items()]
    broker = Mosquitto(folder, (*lines, "allow_anonymous false", f"password_file {passwords}"))
    broker.start()
    secure = broker.url.replace("mqtt://", "mqtts://")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    login = {"HAMS_MQTT_USER": "hams", "HAMS_MQTT_PASSWORD_FILE": str(tmp_path / "password")}
    try:
        code, err = await ended(bridge(own_nats_server, secure, "--ca", str(folder / "other.pem"), **login))
        assert (code, err.count("\n")) == (5, 1), err
        assert "certificate" in err
        assert "is not trusted" in err
        code, err = await ended(
            bridge(
                own_nats_server, secure, "--ca", str(folder / "ca.pem"), HAMS_MQTT_USER="hams", HAMS_MQTT_PASSWORD="no"
            )
        )
        assert (code, err.count("\n")) == (5, 1), err
        assert f"{secure} refuses the user 'hams'" in err
        process = bridge(own_nats_server, secure, "--ca", str(folder / "ca.pem"), **login)
        try:
            await until(lambda: "u'hams'" in broker.log(), timeout=30, what="the login")
            command = await asyncio.to_thread(Path(f"/proc/{process.pid}/cmdline").read_text)
        finally:
            process.send_signal(signal.SIGINT)
        code, err = await ended(process)
        assert code == 0, err
        assert PASSWORD not in command + err
    finally:
        broker.stop(kill=True)


async def test_the_credentials_that_it_needs(tmp_path: Path, mosquitto: Mosquitto) -> None:
    secrets = tmp_path / "site"
    set_up_site(secrets, [], ["box"], max_payload=MAX_PAYLOAD)
    watcher = Watcher(mosquitto)

    def run(role: str, url: str) -> subprocess.Popen[str]:
        options = ("--all", "--broker", mosquitto.url, "--nats", url)
        command = [sys.executable, "-m", "hams_services.ctl", "sink", "mqtt", *options]
        environment = {**os.environ, "HAMS_CREDENTIALS": str(secrets / f"{role}.creds")}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    try:
        async with (
            Broker(tmp_path / "store", host="127.0.0.1", secrets=secrets) as running,
            NatsBus(running.url, credentials=load(secrets / "admin.creds")) as bus,
            site_on(bus) as site,
        ):
            code, err = await ended(run("app", running.url))
            assert code == 5, err
            assert "dashboard.creds or admin.creds" in err
            process = run("dashboard", running.url)
            await until_is(watcher, "hams/status", b"online")
            await site.happen(happened("new", 1), happened("zone_entered", 1, zone="entrance", zones=("entrance",)))
            await until_is(watcher, COUNT, b"1")
            process.send_signal(signal.SIGINT)
            code, err = await ended(process)
            assert code == 0, err
    finally:
        watcher.close()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--broker", "http://x"), "'http://x' is no address of an MQTT broker"),
        (("--broker", "mqtt://hams:s3cret@x"), "user and password do not belong"),
        (("--base", "a/#"), "'a/#' is no base topic"),
        (("--password-file", "/none"), "cannot read the password file /none"),
        (("--ca", "/none"), "write mqtts://"),
        (("--broker", "mqtts://x", "--ca", "/none"), "there is no such file"),
        (("yard",), "name groups, or give --all"),
    ],
)
async def test_options_that_cannot_be(own_nats_server: NatsServer, words: tuple[str, ...], text: str) -> None:
    code, err = await ended(bridge(own_nats_server, "mqtt://127.0.0.1", *words))
    assert (code in (2, 5), err.count("\n")) == (True, 1), err
    assert text in err
    assert "s3cret" not in err
