"""`hams-ctl up`: broker, scheduler, pipeline and one agent per device, supervised until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hams_services.ctl.control import Control, Progress
from hams_services.ctl.store_disk import instead
from hams_services.ctl.system.broker import DEFAULT_PORT, Broker, check_port
from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import (
    BrokerError,
    CredentialsError,
    DeadlineError,
    DeviceSpecError,
    HamsError,
    NotFoundError,
)
from hams_shared.runtime.child_process import run_in_child
from hams_shared.runtime.credentials import VARIABLE, load
from hams_shared.runtime.process import host_name, state_folder
from hams_shared.runtime.runfile import announced, refuse_second
from hams_shared.runtime.supervise import ChildEvent, ChildSpec, RestartPolicy, Supervisor
from hams_shared.wire.subjects import token

log = logging.getLogger("hams.up")

READY_S = 90.0
"""How long the parts may take to be ready, s; importing two inference runtimes on a small box takes a while."""
DISCOVERY_S = 120.0
STARTING = "start devices"
"""The step that :func:`system` and `join` report."""


@dataclass(frozen=True)
class Running:
    """A system that is up."""

    url: str
    devices: tuple[str, ...]
    """Device ids, ready."""
    logs: Path
    supervisor: Supervisor


async def discover() -> tuple[list[str], list[str], str]:
    """Return this host's devices: names for ``--device``, why others were skipped, and its usable cores for people.

    Runs in a child process, because it loads every runtime.

    Raises:
        DeviceSpecError: no device was found.
        DeadlineError: it takes longer than `DISCOVERY_S`.
    """
    try:
        found = await run_in_child(
            "hams_agents.discover:describe_devices", {}, what="device discovery", timeout=DISCOVERY_S
        )
    except DeadlineError as error:
        raise DeadlineError(error.text, "name devices with --device") from None
    devices = [str(device["device"]) for device in found["found"]]
    remarks = [f"{skipped['device']}: {skipped['reason']}" for skipped in found["skipped"]]
    if not devices:
        raise DeviceSpecError("no device was found on this host", "; ".join(remarks))
    return devices, remarks, str(found["cores"])


def part(
    name: str, module: str, url: str, logs: Path, *args: str, credentials: Path | None, stop_timeout: float = 15.0
) -> ChildSpec:
    """A part as a child process that talks to the broker at `url`."""
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", module, *args, "--nats", url),
        env={VARIABLE: str(credentials)} if credentials is not None else {},
        log=logs / f"{name}.log",
        stop_timeout=stop_timeout,
        policy=RestartPolicy(),
    )


@dataclass(frozen=True)
class Secrets:
    """Where the parts' credentials are, if they have any."""

    folder: Path | None

    def of(self, user: str) -> Path | None:
        """The credentials file of `user`; None without a folder.

        Raises:
            CredentialsError: the folder has none.
        """
        if self.folder is None:
            return None
        path = self.folder.expanduser().resolve() / f"{user}.creds"
        if not path.is_file():
            box = user.removeprefix("agent-")
            more = f" --box {box}" if box != user else ""
            raise CredentialsError(
                f"there are no credentials of {user} in {self.folder}",
                f"make them: hams-ctl init --dir {self.folder}{more}",
            )
        return path


def agent_name(device: str) -> str:
    """Name of the child process that serves `device`."""
    return "agent-" + "".join(c if c.isalnum() or c in "@-" else "-" for c in Path(device).name)


@asynccontextmanager
async def system(
    devices: list[str],
    nats: str | None,
    port: int | None,
    host: str,
    metrics: str | None = None,
    schedulers: int = 1,
    secrets: Path | None = None,
    optimizer: bool = False,
    *,
    progress: Progress = lambda what, done, total: None,
) -> AsyncIterator[Running]:
    """Start everything and yield when all devices are registered; leaving stops everything, agents first.

    `metrics` is the HOST:PORT to serve numbers for Prometheus on, None for not at all. Of several `schedulers` one
    leads. With `secrets`, a folder that `hams-ctl init` made, every part gets its own credentials. With `optimizer`
    one is there for `hams-ctl nco`. `progress` is given the number of devices that are ready.

    Raises:
        RefusedError: another `hams-ctl up` runs.
        HamsError: a part could not start; the text holds the last line of its log.
    """
    refuse_second()
    progress(STARTING, 0, len(devices))
    home = state_folder()
    logs = home / "logs"
    own = Secrets(secrets)
    async with AsyncExitStack() as stack:
        url = nats
        broker: Broker | None = None
        if url is None:
            port = _choose_port(host, port)
            broker = Broker(home / "broker", host=host, port=port, secrets=secrets, on_event=log_trouble)
            await stack.enter_async_context(broker)
            url = broker.url
        supervisor = await stack.enter_async_context(Supervisor(log_trouble))
        deciders = ["scheduler", *(f"scheduler-{i}" for i in range(2, schedulers + 1))]
        for name in deciders:
            await supervisor.start(part(name, "hams_scheduler", url, logs, credentials=own.of("scheduler")))
        await supervisor.start(part("pipeline", "hams_services.pipeline", url, logs, credentials=own.of("pipeline")))
        if metrics is not None:
            listen = ("metrics", "--listen", metrics)
            await supervisor.start(
                part("metrics", "hams_services.ctl", url, logs, *listen, credentials=own.of("dashboard"))
            )
        if optimizer:
            await supervisor.start(
                part("optimizer", "hams_services.optimizer", url, logs, credentials=own.of("optimizer"))
            )
        credentials = own.of(f"agent-{token(host_name())}")
        for device in devices:
            args = ("--device", device)
            await supervisor.start(part(agent_name(device), "hams_agents", url, logs, *args, credentials=credentials))
        admin = own.of("admin")
        identity = load(admin) if admin is not None else None
        bus = await stack.enter_async_context(NatsBus(url, name="hams-ctl up", credentials=identity))
        with instead(broker.store if broker is not None else None):
            ready = await _until_ready(supervisor, Control(bus), len(devices), logs, progress)
        stack.enter_context(announced(url, admin, broker.store if broker is not None else None))
        try:
            yield Running(url, ready, logs, supervisor)
        finally:
            await supervisor.stop(*deciders, "pipeline")  # or it would move nodes from each agent that stops
            await supervisor.stop_together(*map(agent_name, devices))  # each may wait for somebody to take over


def _choose_port(host: str, port: int | None) -> int:
    """The port asked for, else the usual one, else a free one."""
    if port is not None:
        return port
    try:
        return check_port(host, DEFAULT_PORT)
    except BrokerError:
        log.warning("port %d is in use: taking a free one", DEFAULT_PORT)
        return 0


def log_trouble(event: ChildEvent) -> None:
    """Log what a child should not have done."""
    if event.kind in ("exited", "restarting", "gave-up", "killed"):
        log.warning("%s", event)


async def _until_ready(
    supervisor: Supervisor, control: Control, devices: int, logs: Path, progress: Progress
) -> tuple[str, ...]:
    """Wait for scheduler, pipeline and as many fresh agents as there are devices."""
    try:
        async with asyncio.timeout(READY_S):
            while True:
                check_children(supervisor, logs)
                try:
                    await control.streams()
                    alive = tuple(d.record.device for d in (await control.view()).devices if d.state == "alive")
                    progress(STARTING, len(alive), devices)
                    if len(alive) >= devices:
                        return alive
                except (NotFoundError, DeadlineError):
                    pass
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise DeadlineError(f"not everything was ready within {READY_S:g} s", f"logs: {logs}") from None


def check_children(supervisor: Supervisor, logs: Path) -> None:
    """Raise DeviceSpecError, with the last line of its log, when a part does not start."""
    for child in supervisor.children.values():
        if child.failed or child.restarts > 1:
            raise _complaint(child.spec.name, child.code, logs)


def _complaint(name: str, code: int | None, logs: Path) -> HamsError:
    path = logs / f"{name}.log"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    last = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
    return DeviceSpecError(f"{name} does not start: {last.removeprefix('error: ') or code}", f"log: {path}")
