"""Options of `hams-ctl trace`; what it does is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats


def trace(
    group: GroupName,
    stream: Annotated[str, typer.Option(help="Only this stream.")] = "*",
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many frames.")] = 1,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for each.")] = 30.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show what happened to the next frame, and when, as a chart: reading, each node's steps, join, publishing."""
    from hams_services.ctl.actions import trace

    trace.trace(group, stream, count, timeout, json, nats, debug)
