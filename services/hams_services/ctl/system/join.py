"""`hams-ctl join`: agents for the devices of this box, of a HAMS on another box; supervised until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hams_services.ctl.system.up import (
    READY_S,
    STARTING,
    Running,
    agent_names,
    check_children,
    incarnations,
    log_trouble,
    part,
    records_of,
)
from hams_shared.bus.control import Progress
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import DeadlineError
from hams_shared.runtime.credentials import Credentials, check_box
from hams_shared.runtime.process import host_name, state_folder
from hams_shared.runtime.runfile import announced, refuse_second
from hams_shared.runtime.supervise import Supervisor
from hams_shared.wire import subjects


def name_box(identity: Credentials | None) -> str:
    """Return this box's name in its devices' ids, also for the agents: HAMS_HOST, else the name in its credentials.

    Raises:
        CredentialsError: the two differ.
    """
    if identity is not None and identity.box:
        os.environ["HAMS_HOST"] = os.environ.get("HAMS_HOST") or identity.box  # containers may set it to nothing
    box = subjects.token(host_name())
    check_box(identity, box)
    return box


@asynccontextmanager
async def joined(
    devices: list[str], url: str, box: str, identity: Credentials | None, progress: Progress
) -> AsyncIterator[Running]:
    """Start one agent per device and yield when all are registered; leaving stops them.

    `identity` holds the credentials of HAMS_CREDENTIALS, which the agents use, too. `progress` receives the number of
    devices that are ready.

    Raises:
        BrokerError: no broker at `url`, or it rejects the credentials.
        RefusedError: `hams-ctl up` or another `join` runs here.
        HamsError: an agent could not start; the text holds the last line of its log.
    """
    refuse_second()
    progress(STARTING, 0, len(devices))
    logs = state_folder() / "logs"
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(NatsBus(url, name="hams-ctl join", credentials=identity))
        records = await bus.kv(subjects.bucket("devices"))
        before = await incarnations(records, box)
        supervisor = await stack.enter_async_context(Supervisor(log_trouble))
        names = agent_names(devices)
        for device, name in names.items():
            args = ("--device", device)
            # First, devices of the other box may have to load what this one served.
            spec = part(name, "hams_agents", url, logs, *args, credentials=None, stop_timeout=40.0)
            await supervisor.start(spec)
        ready = await _until_ready(supervisor, records, box, before, len(devices), logs, progress)
        stack.enter_context(announced(bus.url))
        try:
            yield Running(bus.url, ready, logs, supervisor)
        finally:
            # All together, so that no node moves from one of them to the next.
            await supervisor.stop_together(*names.values())


async def _until_ready(
    supervisor: Supervisor,
    records: KeyValue,
    box: str,
    before: set[str],
    devices: int,
    logs: Path,
    progress: Progress,
) -> tuple[str, ...]:
    """Wait for as many fresh announcements of this box as there are devices."""
    try:
        async with asyncio.timeout(READY_S):
            while True:
                check_children(supervisor, logs)
                fresh = [record.device for record in await records_of(records, box) if record.incarnation not in before]
                progress(STARTING, len(fresh), devices)
                if len(fresh) >= devices:
                    return tuple(sorted(fresh))
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise DeadlineError(f"not every device was ready within {READY_S:g} s", f"logs: {logs}") from None
