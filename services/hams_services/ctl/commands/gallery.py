"""Options of `hams-ctl gallery list`, `name` and `forget`; what they do is in `actions`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats

gallery = typer.Typer(
    no_args_is_help=True, help="Identities that a group has learned: list them, name them, forget them."
)

Node = Annotated[str, typer.Option(help="Only the gallery of this node.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str | None) -> float | None:
    """Return an age such as 30d, 12h, 90m or 45s in seconds; None for none. Raises typer.BadParameter."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no age: 30d, 12h, 90m or 45s")
    return float(found[1]) * _UNITS[found[2]]


@gallery.command("list")
def list_(
    group: GroupName,
    node: Node = "",
    limit: Annotated[int, typer.Option(min=0, max=5000, help="Most identities of each gallery, newest first.")] = 100,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """List the identities of a group, last seen first, deployed or not."""
    from hams_services.ctl.actions import gallery

    gallery.list_identities(group, node, limit, json, nats, debug)


@gallery.command()
def name(
    group: GroupName,
    identity: Annotated[int, typer.Argument(min=0, help="Its number, as results and `list` show it.")],
    name: Annotated[str, typer.Argument(help="Its name from now on; '' takes the name away.")],
    node: Node = "",
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Give an identity a name: results show it at once. Several identities may have the same name."""
    from hams_services.ctl.actions import gallery

    gallery.name_identity(group, identity, name, node, json, nats, debug)


@gallery.command()
def forget(
    group: GroupName,
    who: Annotated[str | None, typer.Argument(metavar="IDENTITY|NAME", help="A number, or all with a name.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Those not seen for so long: 30d, 12h, 90m, 45s.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All, and what is stored for other networks.")] = False,
    node: Node = "",
    events: Annotated[
        bool,
        typer.Option("--events", help="And all events of the group, with crops, from their first to last sighting."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before more than 10 are forgotten.")] = False,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Delete identities, their vectors and names, in the running pipeline and on the broker; it cannot be undone.

    On the broker's disk they are overwritten. A person who is still in view is learned again, under a new number.
    """
    age = seconds(older_than)
    if (who is not None) + (age is not None) + all_ != 1:
        raise typer.BadParameter("give one of IDENTITY, NAME, --older-than and --all")
    from hams_services.ctl.actions import gallery

    gallery.forget(group, who, age, all_, node, events, yes, json, nats, debug)


@gallery.command()
def rewrite(nats: Nats = None, debug: Debug = False) -> None:
    """Take all that was ever forgotten off the broker's disk, at a site that an earlier version of HAMS began.

    The bucket of all galleries is deleted and written again. Do not interrupt it.
    """
    from hams_services.ctl.actions import gallery

    gallery.rewrite(nats, debug)
