"""What `hams-ctl top` and `metrics` do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

from rich.live import Live

from hams_services.ctl.console import out, print_json, with_bus
from hams_services.monitor.core import SystemSnapshot, device_rates, node_rates
from hams_services.monitor.screen import screen
from hams_services.monitor.snapshot import take_snapshot
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BrokerError
from hams_shared.runtime.listen import host_port
from hams_shared.runtime.options import address

LOOK_S = 1.0
"""Time between two snapshots for Prometheus, s."""


def top(interval: float, once: bool, json: bool, nats: str | None, debug: bool) -> None:
    """Show the numbers every `interval` s, or once."""

    async def job(bus: Bus) -> None:
        before = await take_snapshot(bus)
        if before.blind and (once or json):
            raise BrokerError("; ".join(before.troubles))
        await asyncio.sleep(interval)
        after = await take_snapshot(bus)
        if json:
            print_json(_plain(before, after))
            return
        if once or not out.is_terminal:
            out.print(screen(before, after))
            return
        with Live(screen(before, after), console=out, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(before, after), refresh=True)
                await asyncio.sleep(interval)
                before, after = after, await take_snapshot(bus)

    with_bus(job, nats, debug, stopped_is_fine=not (once or json))


def metrics(listen: str, nats: str | None, debug: bool) -> None:
    """Serve the numbers on `listen`, HOST:PORT."""
    from hams_services.monitor.exporter import HamsCollector
    from hams_services.monitor.server import served

    host, port = address(listen)

    async def job(bus: Bus) -> None:
        collector = HamsCollector()
        with served(collector, host, port) as listening:
            out.print(f"metrics at http://{host_port(host, listening)}/metrics")
            while True:
                collector.show(await take_snapshot(bus), time.monotonic())
                await asyncio.sleep(LOOK_S)

    with_bus(job, nats, debug, stopped_is_fine=True)


def _plain(before: SystemSnapshot, after: SystemSnapshot) -> dict[str, object]:
    return {
        "streams": [one.model_dump(mode="json") for one in after.streams],
        "nodes": [asdict(one) for one in node_rates(before, after)],
        "devices": [asdict(one) for one in device_rates(before, after)],
        "troubles": list(after.troubles),
    }
