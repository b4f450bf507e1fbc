"""Options of `hams-ctl credentials list`, `add`, `rotate` and `revoke`; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats, check_duration, duration_s

app = typer.Typer(no_args_is_help=True, help="Users of the broker: list, add, rotate and revoke their credentials.")

User = Annotated[str, typer.Argument(help="A user, as its file is called: agent-box2, app, app-door, pipeline …")]
Folder = Annotated[Path, typer.Option("--dir", help="Folder that `hams-ctl init` made.")]
SECRETS = Path("secrets")


@app.command("list")
def list_(folder: Folder = SECRETS, nats: Nats = None, json: Json = False, debug: Debug = False) -> None:
    """List the users, the state of their keys, and how many connections use them."""
    from hams_services.ctl.actions import credentials

    credentials.list_users(folder, nats, json, debug)


@app.command()
def add(user: User, folder: Folder = SECRETS, nats: Nats = None, debug: Debug = False) -> None:
    """Make credentials for a box (agent-BOX) or an application (app-NAME, dashboard-NAME); others are not touched."""
    from hams_services.ctl.actions import credentials

    credentials.add(user, folder, nats, debug)


@app.command()
def rotate(
    user: User,
    folder: Folder = SECRETS,
    nats: Nats = None,
    wait: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long parts may take to use the new key.", callback=check_duration),
    ] = "30s",
    now: Annotated[
        bool, typer.Option("--now", help="Refuse the old key even if connections still use it: they end.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Give a user a new key without a pause: the old one is refused when no connection uses it any more.

    Running parts read their file again and change over. If one has not (its file is on another box), the command
    prints where; copy the file there, and run the command again: it goes on where it was.
    """
    from hams_services.ctl.actions import credentials

    credentials.rotate(user, folder, nats, duration_s(wait), now, debug)


@app.command()
def revoke(user: User, folder: Folder = SECRETS, nats: Nats = None, debug: Debug = False) -> None:
    """Refuse a user from now on: its connections end at once, and its file is deleted."""
    from hams_services.ctl.actions import credentials

    credentials.revoke(user, folder, nats, debug)


@app.command("reload")
def reload_(folder: Folder = SECRETS, nats: Nats = None, debug: Debug = False) -> None:
    """Make all brokers of a cluster read their users again, after their folders were copied."""
    from hams_services.ctl.actions import credentials

    credentials.reload(folder, nats, debug)
