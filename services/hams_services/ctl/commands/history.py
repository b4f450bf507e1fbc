"""Options of `hams-ctl history`; what it does is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats, check_duration, check_history_kinds


def history(
    group: Annotated[str | None, typer.Option(help="Only what concerns this group.")] = None,
    device: Annotated[str | None, typer.Option(help="Only what concerns this device.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only these kinds, separated by commas: plan,device-lost.",
            callback=check_history_kinds,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Begin with entries this old: 90s, 10m, 2h, 1d. Default: 1h, or with --follow only new entries.",
            callback=check_duration,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new entries until Ctrl-C.")] = False,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print what happened and why: devices, plans, groups, jobs of the optimizer."""
    from hams_services.ctl.actions import history

    history.history(group, device, kind, since, follow, json, nats, debug)
