"""``hams-optimizer``: runs an optimizer until SIGTERM."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from hams_shared.runtime.lifecycle import run, setup_logging
from hams_shared.runtime.options import DEFAULT_NATS, Cache, Credentials, Debug, Host, Nats


def command(
    nats: Nats = DEFAULT_NATS,
    credentials: Credentials = None,
    cache: Cache = None,
    host: Host = None,
    memory: Annotated[int, typer.Option(min=256, help="What a job's tools may use, MiB.")] = 8192,
    debug: Debug = False,
) -> None:
    """Run the optimizer: takes jobs of `hams-ctl nco`, one at a time, at low priority."""
    setup_logging("optimizer", debug=debug)

    async def serve(stop: asyncio.Event) -> None:
        from hams_services.optimizer.service import OptimizerService, lower_priority
        from hams_shared.bus.nats.client import NatsBus
        from hams_shared.runtime.child_limits import Limits
        from hams_shared.runtime.process import cache_folder, host_name

        lower_priority()
        async with NatsBus(nats, name="hams-optimizer") as bus:
            service = OptimizerService(bus, host or host_name(), cache or cache_folder(), Limits(memory_mib=memory))
            await service.run(stop)

    raise typer.Exit(run(serve, debug=debug))


def main() -> None:
    """Entry point."""
    typer.run(command)


if __name__ == "__main__":
    main()
