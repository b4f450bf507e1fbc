"""``hams-pipeline``: runs a pipeline until SIGTERM."""

from __future__ import annotations

import asyncio
import os

import typer

from hams_services.pipeline.service import PipelineService
from hams_services.pipeline.tracing import tracing_of
from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import HamsError
from hams_shared.runtime.lifecycle import report, run, setup_logging
from hams_shared.runtime.options import DEFAULT_NATS, Cache, Credentials, Debug, Nats
from hams_shared.runtime.process import cache_folder


def command(
    nats: Nats = DEFAULT_NATS,
    credentials: Credentials = None,
    cache: Cache = None,
    debug: Debug = False,
) -> None:
    """Run the pipeline: it plays streams, joins the outputs of each frame, and publishes results."""
    setup_logging("pipeline", debug=debug)

    async def serve(stop: asyncio.Event) -> None:
        async with NatsBus(
            nats,
            name="hams-pipeline",
            on_disconnect=lambda: service.on_disconnect(),
            on_reconnect=lambda: service.on_reconnect(),
        ) as bus:
            service = PipelineService(bus, cache or cache_folder(), tracing=tracing)
            await service.run(stop)

    try:
        with tracing_of(os.environ) as tracing:
            code = run(serve, debug=debug)
    except HamsError as error:
        code = report(error)
    raise typer.Exit(code)


def main() -> None:
    """Entry point."""
    typer.run(command)


if __name__ == "__main__":
    main()
