"""What `hams-ctl metrics --otlp` does: the numbers of `metrics` to a collector of OpenTelemetry, again and again."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from hams_services.ctl.console import err, with_bus
from hams_services.monitor.exporter import HamsCollector
from hams_services.monitor.snapshot import take_snapshot
from hams_shared.bus.protocol import Bus
from hams_shared.runtime.otel import needed

log = logging.getLogger("hams.metrics")


def metrics(nats: str | None, debug: bool) -> None:
    """Send them until Ctrl-C. A collector that is away is tried again at the next time; the numbers go on counting."""

    async def job(bus: Bus) -> None:
        with needed("metrics by OTLP"):
            from hams_services.monitor.otlp import MetricExport, interval_s

        pause = interval_s(os.environ)
        collector = HamsCollector()
        export = MetricExport(collector, os.environ)
        err.print(f"metrics go to the collector every {pause:g} s", style="dim")
        try:
            while True:
                begun = time.monotonic()
                collector.show(await take_snapshot(bus), begun)
                failures = export.failures
                if not await _beside(export.export) and failures & (failures + 1) == 0:  # 1, 2, 4, 8 …
                    log.warning("metrics: the collector has not taken them %d times so far", failures + 1)
                await asyncio.sleep(max(0.0, pause - (time.monotonic() - begun)))
        finally:
            export.close()

    with_bus(job, nats, debug, stopped_is_fine=True)


async def _beside(call: Callable[[], bool]) -> bool:
    """Call in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def finish(done: bool) -> None:
        if not future.done():
            future.set_result(done)

    def work() -> None:
        done = False
        try:
            done = call()
        finally:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(finish, done)

    threading.Thread(target=work, name="metrics", daemon=True).start()
    return await future
