"""`hams-ctl up`: broker, scheduler, pipeline and one agent per device, supervised until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from hams_services.ctl.store_disk import instead
from hams_services.ctl.system.broker import DEFAULT_PORT, Broker, check_port
from hams_services.ctl.system.web import page
from hams_services.web.options import WebOptions
from hams_shared.bus.control import Control, Progress
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import KeyValue
from hams_shared.bus.urls import for_child
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    CredentialsError,
    DeadlineError,
    DeviceSpecError,
    HamsError,
    MessageError,
    NotFoundError,
)
from hams_shared.runtime.child_process import run_in_child
from hams_shared.runtime.credentials import VARIABLE, load
from hams_shared.runtime.listen import until_answering
from hams_shared.runtime.options import address
from hams_shared.runtime.process import host_name, state_folder
from hams_shared.runtime.runfile import announced, refuse_second
from hams_shared.runtime.supervise import ChildEvent, ChildSpec, RestartPolicy, Supervisor
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.scheduler import DeviceView
from hams_shared.wire.subjects import token

log = logging.getLogger("hams.up")

READY_S = 90.0
"""How long the parts may take to be ready, s; two inference runtimes load slowly on a small box."""
DISCOVERY_S = 120.0
ANSWER_S = 20.0
"""How long what serves HTTP may take to answer from then on, s."""
LAST_PORT = 65535
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
    page: str = ""
    """Address of the page; empty: there is none."""


@dataclass(frozen=True)
class HostDevices:
    """The devices of this host, as its agents' code finds them."""

    found: list[dict[str, Any]]
    """Each with `device`, the name for ``--device``, `name` of the hardware, `runtime`, `note` …"""
    spare: list[dict[str, Any]]
    """Those that are the host's CPU once more, by another runtime."""
    skipped: list[str]
    """Why others are not used, a line each."""
    cores: str
    """The part of the CPU that can be used, for people."""

    @property
    def names(self) -> list[str]:
        """Names for ``--device``."""
        return [str(one["device"]) for one in self.found]


async def discover() -> HostDevices:
    """Return this host's devices.

    Runs in a child process, because it loads every runtime.

    Raises:
        DeviceSpecError: no device was found.
        DeadlineError: it takes longer than `DISCOVERY_S`.
    """
    try:
        known = await run_in_child(
            "hams_agents.discover:describe_devices", {}, what="device discovery", timeout=DISCOVERY_S
        )
    except DeadlineError as error:
        raise DeadlineError(error.text, "name devices with --device") from None
    skipped = [
        f"{one['device']}: {one['reason']}" + (f" ({one['hint']})" if one["hint"] else "") for one in known["skipped"]
    ]
    if not known["found"]:
        raise DeviceSpecError("no device was found on this host", "; ".join(skipped))
    return HostDevices(list(known["found"]), list(known["spare"]), skipped, str(known["cores"]))


def part(
    name: str, module: str, url: str, logs: Path, *args: str, credentials: Path | None, stop_timeout: float = 15.0
) -> ChildSpec:
    """Return a part as a child process that connects to the broker at `url`."""
    broker, environment = for_child(url)
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", module, *args, *broker),
        env=environment | ({VARIABLE: str(credentials)} if credentials is not None else {}),
        log=logs / f"{name}.log",
        stop_timeout=stop_timeout,
        # Without end: one part that keeps failing must not end the others, which serve.
        policy=RestartPolicy(limit=sys.maxsize),
    )


@dataclass(frozen=True)
class Secrets:
    """The folder of the parts' credentials; None: no credentials."""

    folder: Path | None

    def of(self, user: str) -> Path | None:
        """Return the credentials file of `user`; None without a folder.

        Raises:
            CredentialsError: it is not in the folder.
        """
        if self.folder is None:
            return None
        path = self.folder.expanduser().resolve() / f"{user}.creds"
        if not path.is_file():
            box = user.removeprefix("agent-")
            more = f" --box {box}" if box != user else ""
            raise CredentialsError(
                f"there are no credentials of {user} in {self.folder}",
                f"create them: hams-ctl init --dir {self.folder}{more}",
            )
        return path


def agent_names(devices: Iterable[str]) -> dict[str, str]:
    """Return the names of the child processes that serve `devices`, by device; equal ones are numbered."""
    names: dict[str, str] = {}
    for device in devices:
        plain = "agent-" + "".join(c if c.isalnum() or c in "@-" else "-" for c in Path(device).name)
        numbered = (f"{plain}-{number}" for number in count(2))
        names[device] = next(name for name in chain([plain], numbered) if name not in names.values())
    return names


async def records_of(records: KeyValue, box: str) -> list[DeviceRecord]:
    """Return the announcements of the devices of `box`."""
    found = []
    for key, entry in (await records.entries()).items():
        if key.startswith(f"{box}.") and entry.value is not None:
            try:
                found.append(codec.decode(DeviceRecord, entry.value))
            except MessageError:
                continue  # of another version, so not one of ours
    return found


async def incarnations(records: KeyValue, box: str) -> set[str]:
    """Return the announcements that are there before the agents of `box` are started."""
    return {record.incarnation for record in await records_of(records, box)}


def fresh(devices: Iterable[DeviceView], box: str, before: Collection[str]) -> tuple[str, ...]:
    """Return the living devices of `box` whose agents have started since `before`."""
    alive = [one.record for one in devices if one.state == "alive"]
    return tuple(one.device for one in alive if one.device.startswith(f"{box}.") and one.incarnation not in before)


@dataclass(frozen=True)
class SystemOptions:
    """What to start."""

    devices: list[str]
    nats: str | None = None
    """The broker to use; None: one is started, on `host` and `port`."""
    port: int | None = None
    host: str = "127.0.0.1"
    metrics: str | None = None
    """HOST:PORT to serve metrics for Prometheus on."""
    gateway: str | None = None
    """HOST:PORT to serve groups over HTTP on; gRPC gets the next port."""
    schedulers: int = 1
    """One of them leads."""
    secrets: Path | None = None
    """A folder that `hams-ctl init` created: each part gets credentials of its own."""
    optimizer: bool = False
    """Whether to start one, for the jobs of `hams-ctl nco`."""
    web: WebOptions | None = None
    """Where to serve the page."""


@asynccontextmanager
async def system(options: SystemOptions, progress: Progress = lambda what, done, total: None) -> AsyncIterator[Running]:
    """Start all parts and yield when all devices are registered; leaving stops them, scheduler and pipeline first.

    `progress` receives the number of devices that are ready.

    Raises:
        RefusedError: another `hams-ctl up` runs.
        BadInputError: the gateway would let everybody in, or HAMS_CREDENTIALS is set for a broker that takes none.
        HamsError: a part could not start; the text holds the last line of its log.
    """
    refuse_second()
    _check_credentials(options)
    if options.gateway is not None:
        check_gateway(options.gateway)
    progress(STARTING, 0, len(options.devices))
    async with AsyncExitStack() as stack:
        url, store = options.nats, None
        if url is None:
            broker = await stack.enter_async_context(_broker(options))
            url, store = broker.url, broker.store
        parts = _Parts(options, url, state_folder() / "logs", Secrets(options.secrets))
        deciders = list(parts.deciders())
        supervisor = await stack.enter_async_context(Supervisor(log_trouble))
        identity = load(admin) if (admin := parts.secrets.of("admin")) is not None else None
        bus = await stack.enter_async_context(NatsBus(url, name="hams-ctl up", credentials=identity))
        with instead(store):
            before = await incarnations(await bus.kv(subjects.bucket("devices")), token(host_name()))
            for spec in (*deciders, *parts.optional(), *parts.agents()):
                await supervisor.start(spec)
            ready = await _until_ready(supervisor, Control(bus), before, len(options.devices), parts.logs, progress)
        stack.enter_context(announced(url, admin, store))
        dashboard = parts.secrets.of("dashboard") if options.web else None
        shown = await stack.enter_async_context(page(options.web, url, parts.logs, dashboard))
        await _until_answering(options, parts.logs)
        try:
            yield Running(url, ready, parts.logs, supervisor, shown)
        finally:
            # The scheduler ends first: it would move the nodes of each agent that stops to the next.
            await supervisor.stop(*(spec.name for spec in deciders))
            await supervisor.stop_together(*agent_names(options.devices).values())


@dataclass(frozen=True)
class _Parts:
    """The parts of a system as child processes."""

    options: SystemOptions
    url: str
    logs: Path
    secrets: Secrets

    def deciders(self) -> Iterator[ChildSpec]:
        for number in range(1, self.options.schedulers + 1):
            name = "scheduler" if number == 1 else f"scheduler-{number}"
            yield self._part(name, "hams_scheduler", user="scheduler")
        yield self._part("pipeline", "hams_services.pipeline", user="pipeline")

    def optional(self) -> Iterator[ChildSpec]:
        if self.options.metrics is not None:
            listen = ("metrics", "--listen", self.options.metrics)
            yield self._part("metrics", "hams_services.ctl", *listen, user="dashboard")
        if self.options.gateway is not None:
            both = ("--http", self.options.gateway, "--grpc", next_port(self.options.gateway))
            yield self._part("gateway", "hams_services.gateway", *both, user="app")
        if self.options.optimizer:
            yield self._part("optimizer", "hams_services.optimizer", user="optimizer")

    def agents(self) -> Iterator[ChildSpec]:
        user = f"agent-{token(host_name())}"
        for device, name in agent_names(self.options.devices).items():
            yield self._part(name, "hams_agents", "--device", device, user=user)

    def _part(self, name: str, module: str, *args: str, user: str) -> ChildSpec:
        return part(name, module, self.url, self.logs, *args, credentials=self.secrets.of(user))


def next_port(listen: str) -> str:
    """Return HOST:PORT with the next port; 0, any, stays."""
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + 1 if int(port) else 0}"


def _check_credentials(options: SystemOptions) -> None:
    """Raise BadInputError for credentials that the system's own broker, without `secrets`, does not take."""
    if options.nats is None and options.secrets is None and os.environ.get(VARIABLE):
        raise BadInputError(
            f"{VARIABLE} is set, but a broker without --secrets takes no credentials",
            f"give --secrets FOLDER, or unset {VARIABLE}",
        )


def check_gateway(listen: str) -> None:
    """Raise BadInputError when a gateway at HOST:PORT would let everybody in, or cannot listen there."""
    from hams_services.gateway.guard import check_listen
    from hams_services.security.tokens import TokenFile, default_path

    tokens = os.environ.get("HAMS_TOKENS")
    file = TokenFile(Path(tokens or default_path()), required=bool(tokens))
    check_listen("--gateway", listen.rpartition(":")[0], file)
    for one in (listen, next_port(listen)):
        host, _, port = one.rpartition(":")
        if int(port) > LAST_PORT:
            raise BadInputError(f"--gateway {listen}: there is no next port for gRPC", f"give one below {LAST_PORT}")
        try:
            check_port(host.strip("[]"), int(port))
        except BrokerError as error:
            raise BadInputError(f"--gateway: {error.text}", "give another port; gRPC takes the next one") from None


def _broker(options: SystemOptions) -> Broker:
    port = _choose_port(options.host, options.port)
    return Broker(
        state_folder() / "broker", host=options.host, port=port, secrets=options.secrets, on_event=log_trouble
    )


def _choose_port(host: str, port: int | None) -> int:
    """Return the requested port, else the default one, else a free one."""
    if port is not None:
        return port
    try:
        return check_port(host, DEFAULT_PORT)
    except BrokerError:
        log.warning("port %d is in use: taking a free one", DEFAULT_PORT)
        return 0


def log_trouble(event: ChildEvent) -> None:
    """Log a child that ended, or was restarted, killed or given up."""
    if event.kind in ("exited", "restarting", "gave-up", "killed"):
        log.warning("%s", event)


async def _until_ready(
    supervisor: Supervisor, control: Control, before: set[str], devices: int, logs: Path, progress: Progress
) -> tuple[str, ...]:
    """Wait for scheduler, pipeline and as many fresh agents of this box as there are devices."""
    box = token(host_name())
    try:
        async with asyncio.timeout(READY_S):
            while True:
                check_children(supervisor, logs)
                try:
                    await control.streams()
                    alive = fresh((await control.view(matrix=False)).devices, box, before)
                    progress(STARTING, len(alive), devices)
                    if len(alive) >= devices:
                        return alive
                except (NotFoundError, DeadlineError):
                    pass
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise DeadlineError(f"not all parts were ready within {READY_S:g} s", f"logs: {logs}") from None


async def _until_answering(options: SystemOptions, logs: Path) -> None:
    """Wait until what serves HTTP can be reached, since its address is told next."""
    for name, listen in (("metrics", options.metrics), ("gateway", options.gateway)):
        host, port = address(listen) if listen is not None else ("", 0)
        if port and not await until_answering(host, port, ANSWER_S):
            log.warning("%s does not answer yet; its log: %s", name, logs / f"{name}.log")


def check_children(supervisor: Supervisor, logs: Path) -> None:
    """Raise DeviceSpecError, with the last line of its log, for a part that does not start."""
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
