"""What `hams-ctl top` and `metrics` do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

from rich.live import Live

from hams_services.ctl.console import out, print_json, with_bus
from hams_services.ctl.options import address
from hams_services.monitor.core import SystemSnapshot, device_rates, node_rates
from hams_services.monitor.screen import screen
from hams_services.monitor.snapshot import take_snapshot
from hams_shared.bus.protocol import Bus
from hams_shared.bus.urls import host_port
from hams_shared.errors import BadInputError, BrokerError

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
    from prometheus_client import CollectorRegistry, start_http_server

    from hams_services.monitor.exporter import HamsCollector

    host, port = address(listen)

    async def job(bus: Bus) -> None:
        collector = HamsCollector()
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise BadInputError(f"cannot listen on {listen}: {error.strerror or error}") from None
        out.print(f"metrics at http://{host_port(host, server.server_port)}/metrics")
        try:
            while True:
                collector.show(await take_snapshot(bus), time.monotonic())
                await asyncio.sleep(LOOK_S)
        finally:
            await asyncio.to_thread(server.shutdown)
            thread.join(5)
            server.server_close()

    with_bus(job, nats, debug, stopped_is_fine=True)


def _plain(before: SystemSnapshot, after: SystemSnapshot) -> dict[str, object]:
    return {
        "streams": [one.model_dump(mode="json") for one in after.streams],
        "nodes": [asdict(one) for one in node_rates(before, after)],
        "devices": [asdict(one) for one in device_rates(before, after)],
        "troubles": list(after.troubles),
    }
