"""Options of `hams-ctl events`; what it does is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats, check_duration, check_kinds


def events(
    group: GroupName,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new events until Ctrl-C.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="Begin with events this old: 90s, 10m, 2h, 1d. Default: 1h, or with --follow only new events.",
            callback=check_duration,
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only these kinds, separated by commas: new,rule.", callback=check_kinds)
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Write the crops of events (`crop: true` of the group file) into this folder.")
    ] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print the events of a group's tracks: new and ended ones, zones, lines and rules."""
    from hams_services.ctl.actions import events

    events.events(group, stream, follow, since, kind, crops, json, nats, debug)
