"""Options of `hams-ctl top`, `metrics` and `tap`; what they do is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Nats, check_address

METRICS = "127.0.0.1:9464"


def top(
    interval: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and leave.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one look as JSON and leave.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show streams, nodes and devices at work, until Ctrl-C."""
    from hams_services.ctl.actions import watch

    watch.top(interval, once, json, nats, debug)


def metrics(
    listen: Annotated[str, typer.Option(help="Address and port to serve on.", callback=check_address)] = METRICS,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Serve the numbers of `top` for Prometheus at /metrics, until Ctrl-C."""
    from hams_services.ctl.actions import watch

    watch.metrics(listen, nats, debug)
