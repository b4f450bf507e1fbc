"""The embedded broker as `hams-ctl up` runs it, watched and started again, in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from hams_services.ctl.system.broker import Broker


async def _serve(store: Path, port: int, secrets: Path | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Broker(store, port=port, secrets=secrets):
        await stop.wait()


if __name__ == "__main__":
    store, port, *secrets = sys.argv[1:]
    asyncio.run(_serve(Path(store), int(port), Path(secrets[0]) if secrets else None))
