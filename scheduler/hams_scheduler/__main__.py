"""``hams-scheduler``: runs a scheduler until SIGTERM."""

from __future__ import annotations

import asyncio

import typer

from hams_scheduler.service import SchedulerService
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.lifecycle import run, setup_logging
from hams_shared.runtime.options import DEFAULT_NATS, Credentials, Debug, Nats


def command(nats: Nats = DEFAULT_NATS, credentials: Credentials = None, debug: Debug = False) -> None:
    """Run the scheduler: measures models on devices, places groups, and moves them when devices come and go."""
    setup_logging("scheduler", debug=debug)

    async def serve(stop: asyncio.Event) -> None:
        async with NatsBus(
            nats,
            name="hams-scheduler",
            on_disconnect=lambda: service.on_disconnect(),
            on_reconnect=lambda: service.on_reconnect(),
        ) as bus:
            service = SchedulerService(bus)
            await service.run(stop)

    raise typer.Exit(run(serve, debug=debug))


def main() -> None:
    """Entry point."""
    typer.run(command)


if __name__ == "__main__":
    main()
