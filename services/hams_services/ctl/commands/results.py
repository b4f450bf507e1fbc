"""Options of `hams-ctl results`, `infer` and `tap`; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats, check_duration


def results(
    group: GroupName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until Ctrl-C.")] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            min=1,
            help="Stop after this many results. Default: 1; of kept results: all; with --follow: never.",
        ),
    ] = None,
    stream: Annotated[str, typer.Option(help="Only this stream.")] = "*",
    since: Annotated[
        str | None,
        typer.Option(
            help="Begin with kept results this old: 90s, 10m, 2h, 1d. The group file says `results: {keep: 1h}`.",
            callback=check_duration,
        ),
    ] = None,
    durable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Go on with kept results where the last reader of this name ended; at the first time with --since.",
        ),
    ] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print joined results of a group's streams as they arrive, or those that the broker keeps, one line each."""
    from hams_services.ctl.actions import results

    results.results(group, follow, count, stream, since, durable, json, nats, debug)


def infer(
    group: GroupName,
    image: Annotated[Path, typer.Argument(help="An image file: JPEG, PNG, …")],
    annotate: Annotated[Path | None, typer.Option(help="Write the image with the results drawn in.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait.")] = 30.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Send one image through a deployed group and print the joined result."""
    from hams_services.ctl.actions import results

    results.infer(group, image, annotate, timeout, json, nats, debug)


def tap(
    group: GroupName,
    node: Annotated[str, typer.Argument(help="The node whose outputs to show.")],
    stream: Annotated[str, typer.Option(help="Only this stream.")] = "*",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until Ctrl-C.")] = False,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Stop after this many outputs. Default: 1; with --follow: never."),
    ] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print the outputs of one node as they arrive, one line each. It does not slow the group down."""
    from hams_services.ctl.actions import results

    results.tap(group, node, stream, follow, count, json, nats, debug)
