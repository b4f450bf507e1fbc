"""Options of `hams-ctl forget-events`; what it does is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats, check_duration, duration_s


def forget_events(
    group: GroupName,
    stream: Annotated[str | None, typer.Option(help="Only those of this stream.")] = None,
    last: Annotated[
        str | None, typer.Option(metavar="TIME", help="Those of the last 10m, 2h, 1d.", callback=check_duration)
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Those older than 10m, 2h, 1d.", callback=check_duration)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Delete stored events of a group with their crops; on the broker's disk they are overwritten.

    Of a group's identities: `hams-ctl gallery forget --events`.
    """
    if (last is not None) + (older_than is not None) + all_ != 1:
        raise typer.BadParameter("give one of --last, --older-than and --all")
    from hams_services.ctl.actions import forget_events as actions

    last_s, older_s = (None if text is None else duration_s(text) for text in (last, older_than))
    actions.forget_events(group, stream, last_s, older_s, yes, json, nats, debug)
