"""Options of `hams-ctl backup` and `restore`; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Nats


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write (tar).")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if it exists.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write what cannot be made again to one file: groups, variants, and the networks of both.

    Plans and measurements are found again. Keep the file to yourself: sources of streams may hold passwords.
    """
    from hams_services.ctl.actions import backup

    backup.backup(file, replace, nats, debug)


def restore(
    file: Annotated[Path, typer.Argument(help="What `hams-ctl backup` wrote.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep groups and variants that are there and differ from the backup's.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put the backup's in their place.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Bring back groups, variants and networks from a backup; what is deployed beside them stays.

    The file is checked whole before anything is written. Where the broker holds something else under the same name,
    nothing is done unless --keep or --replace says what is to be.
    """
    if keep and replace:
        raise typer.BadParameter("--keep or --replace, not both")
    from hams_services.ctl.actions import backup

    backup.restore(file, keep, replace, nats, debug)
