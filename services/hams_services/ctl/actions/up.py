"""What `hams-ctl up` and `join` do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from rich.text import Text

from hams_services.ctl.console import err, out, without_bus
from hams_services.ctl.progress import steps
from hams_services.ctl.system.join import joined, name_box
from hams_services.ctl.system.up import Running, SystemOptions, discover, next_port, system
from hams_services.ctl.system.web import page_address
from hams_shared.bus.control import Progress
from hams_shared.bus.urls import redacted
from hams_shared.errors import InternalError
from hams_shared.runtime.credentials import of_environment
from hams_shared.runtime.listen import host_port
from hams_shared.runtime.options import address

LOOPBACK = "127.0.0.1"
"""The default address of HAMS's own broker."""


async def choose_devices(named: list[str] | None) -> list[str]:
    """Return the named devices, else those discovered."""
    if named:
        return list(dict.fromkeys(named))
    with steps() as progress:
        progress("look for devices", 0, 0)
        here = await discover()
    for remark in here.skipped:
        err.print(f"not used: {remark}", style="dim")
    if " of " in here.cores:
        err.print(f"CPU: {here.cores}", style="dim")
    return here.names


def unused_options(nats: str | None, port: int | None, host: str) -> str:
    """Return a remark on options of an own broker that do not apply, since the one at `nats` is used; else nothing."""
    given = ["--port"] * (port is not None) + ["--host"] * (host != LOOPBACK)
    if nats is None or not given:
        return ""
    return (
        f"not used: {' and '.join(given)}, because the broker at {redacted(nats)} is used (--nats or HAMS_NATS_URL); "
        "for an own broker unset HAMS_NATS_URL"
    )


Start = Callable[[Progress], AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def _until_stopped(start: Start, headline: str, at: str) -> AsyncIterator[Running]:
    """Run what `start` makes, and name its devices; after the block wait for Ctrl-C, or raise if one stays away."""
    try:
        async with with_progress(start) as running:
            out.print(Text.assemble((headline, "bold green"), f"{at} {running.url}"))
            for name in running.devices:
                out.print(f"  {name}")
            yield running
            failed = await running.supervisor.failure()
            raise InternalError(f"{failed.spec.name} cannot be started again", f"log: {failed.spec.log}")
    except asyncio.CancelledError:
        err.print("stopped")
        raise


@asynccontextmanager
async def with_progress(start: Start) -> AsyncIterator[Running]:
    """Run the system that `start` makes, and show the progress of its start and end."""
    async with AsyncExitStack() as stack:
        with steps() as progress:
            running = await stack.enter_async_context(start(progress))
        try:
            yield running
        finally:
            with steps() as progress:
                progress("stop everything", 0, 0)
                await stack.aclose()


def up(
    device: list[str] | None,
    nats: str | None,
    port: int | None,
    host: str,
    metrics: str | None,
    gateway: str | None,
    schedulers: int,
    optimizer: bool,
    secrets: Path | None,
    web: str | None,
    no_web: bool,
    debug: bool,
) -> None:
    """Start everything, and keep it running until Ctrl-C."""

    async def main(stop: asyncio.Event) -> None:
        if unused := unused_options(nats, port, host):
            err.print(unused)
        shown = None if no_web else page_address(web, secrets is not None)
        devices = await choose_devices(device)
        err.print(f"starting {len(devices)} device{'s' * (len(devices) != 1)}: {', '.join(devices)}")
        options = SystemOptions(devices, nats, port, host, metrics, gateway, schedulers, secrets, optimizer, shown)
        async with _until_stopped(partial(system, options), "HAMS is up", " at") as running:
            if metrics is not None:
                out.print(f"  metrics: http://{host_port(*address(metrics))}/metrics")
            if gateway is not None:
                http, rpc = (host_port(*address(one)) for one in (gateway, next_port(gateway)))
                out.print(f"  gateway: http://{http}, gRPC at {rpc}")
            if running.page:
                out.print(f"  page: {running.page}")
            elif not no_web:
                out.print("  no page: install hams[web]", style="dim")
            out.print(f"  logs: {running.logs}")
            out.print("next: hams-ctl deploy examples/face.yaml   (Ctrl-C here stops everything)")

    without_bus(main, debug, stopped_is_fine=True)


def join(nats: str, device: list[str] | None, debug: bool) -> None:
    """Start one agent per device for another box's HAMS, and keep them running until Ctrl-C."""

    async def main(stop: asyncio.Event) -> None:
        identity = of_environment()
        box = name_box(identity)
        devices = await choose_devices(device)
        err.print(f"starting {len(devices)} device{'s' * (len(devices) != 1)}: {', '.join(devices)}")
        async with _until_stopped(partial(joined, devices, nats, box, identity), f"{box} has joined", "") as running:
            out.print(f"  logs: {running.logs}")

    without_bus(main, debug, stopped_is_fine=True)
