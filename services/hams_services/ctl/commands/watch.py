"""Options of `hams-ctl top` and `metrics`; what they do is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Nats, check_address

METRICS = "127.0.0.1:9464"


def top(
    interval: Annotated[float, typer.Option(min=0.5, max=60, help="Time between two updates, s.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print once as JSON and exit.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the load of streams, nodes and devices, until Ctrl-C."""
    from hams_services.ctl.actions import watch

    watch.top(interval, once, json, nats, debug)


def metrics(
    listen: Annotated[str, typer.Option(help="Address and port to serve on.", callback=check_address)] = METRICS,
    otlp: Annotated[
        bool, typer.Option("--otlp", help="Send them to OTEL_EXPORTER_OTLP_ENDPOINT instead. Needs hams[otel].")
    ] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Serve the numbers of `top` for Prometheus at /metrics, until Ctrl-C."""
    if otlp:
        from hams_services.ctl.actions import otlp as sending

        sending.metrics(nats, debug)
        return
    from hams_services.ctl.actions import watch

    watch.metrics(listen, nats, debug)
