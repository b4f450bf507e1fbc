"""What `hams-ctl diagnose` does."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from hams_services.ctl.console import broker_url, out, without_bus
from hams_services.ctl.progress import steps
from hams_services.ctl.system.diagnose import diagnose as gather
from hams_services.ctl.system.up import discover
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus


def diagnose(file: Path | None, nats: str | None, debug: bool) -> None:
    """Write the file; its default name, in the current folder, holds the time."""
    target = file or Path(f"hams-diagnose-{datetime.now().astimezone():%Y%m%d-%H%M%S}.tar.gz")

    async def main(stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:

            async def connect() -> Bus:
                return await stack.enter_async_context(NatsBus(broker_url(nats), name="hams-ctl", connect_timeout=3.0))

            with steps() as progress:
                found = await gather(target, connect, _devices, progress)
        size = (await asyncio.to_thread(target.stat)).st_size
        out.print(f"{target}: {size / 2**10:.0f} kB; passwords are hidden", soft_wrap=True)
        for line in found.missing:
            out.print(f"  missing: {line}", soft_wrap=True)

    without_bus(main, debug)


async def _devices() -> Any:
    here = await discover()
    return {
        "devices": here.names,
        "details": here.found,
        "spare": here.spare,
        "skipped": here.skipped,
        "cores": here.cores,
    }
