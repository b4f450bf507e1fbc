"""The embedded broker as `hams-ctl up` runs it, watched and started again, in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from hams_services.ctl.system.broker import Broker


async def _serve(store: Path, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Broker(store, port=port):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
