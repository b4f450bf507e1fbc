"""Options of `hams-ctl candidate`; what it does is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats

candidate = typer.Typer(
    no_args_is_help=True, help="Compare the candidate for a group with what serves; promote or drop it."
)


@candidate.command()
def status(
    group: Annotated[str | None, typer.Argument(help="The group that it is for; default: all.")] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show agreement, times and lost frames of candidates."""
    from hams_services.ctl.actions import candidate

    candidate.status(group, json, nats, debug)


@candidate.command()
def promote(group: GroupName, nats: Nats = None, debug: Debug = False) -> None:
    """Let the candidate serve in place of what serves; the streams of the group stay."""
    from hams_services.ctl.actions import candidate

    candidate.promote(group, nats, debug)


@candidate.command()
def drop(group: GroupName, nats: Nats = None, debug: Debug = False) -> None:
    """Remove the candidate; what serves goes on."""
    from hams_services.ctl.actions import candidate

    candidate.drop(group, nats, debug)
