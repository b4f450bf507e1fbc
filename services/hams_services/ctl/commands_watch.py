"""`hams-ctl top`, `metrics` and `tap`: what the system does, and what one node says, as it happens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server
from rich.live import Live

from hams_client import Hams
from hams_services.ctl.commands_results import GroupName
from hams_services.ctl.console import out, print_each, print_json, with_bus
from hams_services.ctl.control import Control
from hams_services.ctl.options import Debug, Json, Nats, address, check_address
from hams_services.monitor.core import Look, device_rates, node_rates
from hams_services.monitor.exporter import HamsCollector
from hams_services.monitor.look import look
from hams_services.monitor.screen import screen
from hams_shared.bus import Bus
from hams_shared.errors import BadInputError, NotFoundError
from hams_shared.frames import Output

METRICS = "127.0.0.1:9464"
LOOK_S = 1.0
"""Seconds between two looks for Prometheus."""


def top(
    interval: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and leave.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one look as JSON and leave.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show streams, nodes and devices at work, until Ctrl-C."""

    async def job(bus: Bus) -> None:
        before = await look(bus)
        await asyncio.sleep(interval)
        after = await look(bus)
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
                before, after = after, await look(bus)

    with_bus(job, nats, debug, stopped_is_fine=not (once or json))


def metrics(
    listen: Annotated[str, typer.Option(help="Address and port to serve on.", callback=check_address)] = METRICS,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Serve the numbers of `top` for Prometheus at /metrics, until Ctrl-C."""
    host, port = address(listen)

    async def job(bus: Bus) -> None:
        collector = HamsCollector()
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise BadInputError(f"cannot listen on {listen}: {error.strerror or error}") from None
        out.print(f"metrics at http://{host}:{server.server_port}/metrics")
        try:
            while True:
                collector.show(await look(bus), time.monotonic())
                await asyncio.sleep(LOOK_S)
        finally:
            await asyncio.to_thread(server.shutdown)
            thread.join(5)
            server.server_close()

    with_bus(job, nats, debug, stopped_is_fine=True)


def _plain(before: Look, after: Look) -> dict[str, object]:
    return {
        "streams": [one.model_dump(mode="json") for one in after.streams],
        "nodes": [asdict(one) for one in node_rates(before, after)],
        "devices": [asdict(one) for one in device_rates(before, after)],
        "troubles": list(after.troubles),
    }


def tap(
    group: GroupName,
    node: Annotated[str, typer.Argument(help="The node whose outputs to show.")],
    stream: Annotated[str, typer.Option(help="Only this stream.")] = "*",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Stop after this many outputs.")] = 1,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print the outputs of one node as they come, one line each. The group does not notice."""

    async def job(bus: Bus) -> None:
        view = await Control(bus).deployed(group)
        plan = view.active or view.next
        nodes = list(plan.group.spec.nodes) if plan else []
        if plan is not None and node not in nodes:
            raise NotFoundError(f"group {group} has no node {node}", f"its nodes: {', '.join(nodes)}")
        outputs = Hams(bus).tap(group, node, stream)
        await print_each(outputs, f"outputs of {group}/{node}", as_map, line, json, None if follow else count)

    with_bus(job, nats, debug, stopped_is_fine=follow)


def as_map(output: Output) -> dict[str, object]:
    """The whole output as plain values."""
    return {
        **asdict(output.id),
        "node": output.node,
        "device": output.device,
        "items": output.items,
        "sources": output.sources,
        "timing": output.timing,
        "error": output.error,
    }


def line(output: Output) -> str:
    """One line for one output."""
    head = f"{output.id.stream} #{output.id.frame:<6} {output.device}"
    if output.error is not None:
        return f"{head}  {output.error['code']}: {output.error.get('text', '')}"
    timing = " ".join(f"{name} {ms:.1f}" for name, ms in output.timing.items())
    found = [one for item in output.items for one in (item if isinstance(item, list) else [item])]
    words = ", ".join(summary(one) for one in found[:4]) or "nothing"
    more = f", +{len(found) - 4}" if len(found) > 4 else ""
    return f"{head}  {timing} ms  {words}{more}"


def summary(one: object) -> str:
    """One item in a word or two."""
    if not isinstance(one, dict):
        return type(one).__name__
    if "box" in one:
        x0, y0, x1, y1 = one["box"]
        return f"{one.get('label') or 'object'} {one['score']:.2f} ({x0:.0f}, {y0:.0f})–({x1:.0f}, {y1:.0f})"
    for key in ("label", "text"):
        if key in one:
            return f"{one[key]} {one['score']:.2f}" if isinstance(one.get("score"), float) else str(one[key])
    if "value" in one:
        return f"{one['value']:.1f} {one.get('unit', '')}".rstrip()
    if "points" in one:
        return f"{len(one['points'])} points"
    return ", ".join(one)
