"""A real nats-server for tests, plain and synchronous, so that it outlives any event loop.

`nats_server` (per session) is for tests that use their own subjects and buckets; `own_nats_server` (per test) for
those that stop, kill or wipe it. A conftest makes them available: ``from support.nats_server import nats_server``.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hams_services.ctl.system.broker import find_nats_server, last_complaint, write_config
from support.ports import free_port
from support.wait import until_sync


class NatsServer:
    """A server whose `store` is a folder of its own: FileExistsError where there is one already."""

    def __init__(self, store: Path, max_payload: int = 8 * 1024 * 1024) -> None:
        store.mkdir()
        self.store = store
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = write_config(store, host="127.0.0.1", port=self.port, max_payload=max_payload)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it; wait until it answers in clear text, or takes connections if it is not to be `ready` for that."""
        assert self._process is None
        with (self.store / "nats-server.out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(find_nats_server()), "--config", str(self._config)], stdout=out, stderr=out
            )
        until_sync(self._ready if ready else self._listens, what="nats-server")

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def pause(self) -> None:
        """Let it answer nothing until it is killed, or to :meth:`resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self, *, kill: bool = False, empty: bool = False) -> None:
        self.stop(kill=kill)
        if empty:
            shutil.rmtree(self.store / "jetstream")
        self.start()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"nats-server ended: {last_complaint(self.store)}"
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0

    def _ready(self) -> bool:
        if not self._listens():
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.settimeout(2)
                with link.makefile("rwb") as file:
                    file.readline()
                    file.write(b"CONNECT {}\r\nSUB reply 1\r\nPUB $JS.API.INFO reply 0\r\n\r\n")
                    file.flush()
                    while line := file.readline():
                        if line.startswith(b"MSG"):
                            return b'"error"' not in file.readline()
        except OSError:
            pass
        return False


def _running(store: Path) -> Iterator[NatsServer]:
    server = NatsServer(store)
    try:
        server.start()
        yield server
    finally:
        server.stop(kill=True)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    yield from _running(tmp_path_factory.mktemp("nats") / "store")


@pytest.fixture
def own_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    yield from _running(tmp_path / "nats")
