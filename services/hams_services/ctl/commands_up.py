"""`hams-ctl up`, `join` and `demo`: start a whole system, or the devices of another box."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.console import err, out, without_bus
from hams_services.ctl.demo import run_demo
from hams_services.ctl.join import joined, name_box
from hams_services.ctl.options import Debug, Devices, Nats, Strategy, check_address
from hams_services.ctl.up import discover, system
from hams_shared.credentials import of_environment
from hams_shared.errors import InternalError
from hams_shared.options import Credentials


async def choose_devices(named: list[str] | None) -> list[str]:
    """The devices named, else those discovered."""
    if named:
        return list(dict.fromkeys(named))
    with err.status("looking for devices"):
        found, remarks = await discover()
    for remark in remarks:
        err.print(f"[dim]not used: {remark}[/dim]")
    return found


def up(
    device: Devices = None,
    nats: Nats = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Broker port (default: 4222, or a free one); 0: any.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address the broker listens on.")] = "127.0.0.1",
    metrics: Annotated[
        str | None,
        typer.Option(help="Serve numbers for Prometheus on HOST:PORT, as `metrics` does.", callback=check_address),
    ] = None,
    schedulers: Annotated[
        int, typer.Option(min=1, max=5, help="Schedulers to start: one leads, the others stand by.")
    ] = 1,
    optimizer: Annotated[bool, typer.Option(help="Also start an optimizer, for the jobs of `hams-ctl nco`.")] = True,
    secrets: Annotated[
        Path | None,
        typer.Option(help="Folder that `hams-ctl init` made: TLS, and only who has credentials gets in."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Start broker, scheduler, pipeline and one agent per device; Ctrl-C stops everything.

    With --nats (or HAMS_NATS_URL) an existing NATS server with JetStream is used instead of an own one.
    """

    async def main(stop: asyncio.Event) -> None:
        devices = await choose_devices(device)
        err.print(f"starting {len(devices)} device{'s' * (len(devices) != 1)}: {', '.join(devices)}")
        try:
            async with system(devices, nats, port, host, metrics, schedulers, secrets, optimizer) as running:
                out.print(f"[bold green]HAMS is up[/bold green] at {running.url}")
                for name in running.devices:
                    out.print(f"  {name}")
                if metrics is not None:
                    out.print(f"  metrics: http://{metrics}/metrics")
                out.print(f"  logs: {running.logs}")
                out.print("next: hams-ctl deploy examples/face.yaml   (Ctrl-C here stops everything)")
                failed = await running.supervisor.failure()
                raise InternalError(f"{failed.spec.name} keeps failing and was given up", f"log: {failed.spec.log}")
        except asyncio.CancelledError:
            err.print("stopped")
            raise

    without_bus(main, debug, stopped_is_fine=True)


def join(
    nats: Annotated[
        str, typer.Option("--nats", envvar="HAMS_NATS_URL", help="The other box's broker: tls://box1:4222.")
    ],
    credentials: Credentials = None,
    device: Devices = None,
    debug: Debug = False,
) -> None:
    """Serve this box's devices for a HAMS that runs on another box: one agent per device; Ctrl-C stops them.

    With credentials, this box is called what they say: `hams-ctl init --box NAME` makes them on the other one.
    """

    async def main(stop: asyncio.Event) -> None:
        identity = of_environment()
        box = name_box(identity)
        devices = await choose_devices(device)
        err.print(f"starting {len(devices)} device{'s' * (len(devices) != 1)}: {', '.join(devices)}")
        try:
            async with joined(devices, nats, box, identity) as running:
                out.print(f"[bold green]{box} has joined[/bold green] {running.url}")
                for name in running.devices:
                    out.print(f"  {name}")
                out.print(f"  logs: {running.logs}")
                failed = await running.supervisor.failure()
                raise InternalError(f"{failed.spec.name} keeps failing and was given up", f"log: {failed.spec.log}")
        except asyncio.CancelledError:
            err.print("stopped")
            raise

    without_bus(main, debug, stopped_is_fine=True)


def demo(
    file: Annotated[Path, typer.Argument(help="Group file; its first stream is played once, losslessly.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for annotated pictures.")] = Path("demo-out"),
    device: Devices = None,
    strategy: Strategy = "hfs",
    debug: Debug = False,
) -> None:
    """Show the main job: start everything, measure, place, play a stream to its end, report, stop.

    Uses two devices unless told otherwise: OpenVINO on core 0 and ONNX Runtime on core 1. Exit code 0 only if every
    frame is accounted for and something was found.
    """

    async def main(stop: asyncio.Event) -> None:
        await run_demo(file, out_dir, device, strategy or "hfs")

    without_bus(main, debug)
