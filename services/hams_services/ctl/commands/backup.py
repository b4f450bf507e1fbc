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
    """Write groups, variants and the networks of both to one file.

    Plans and measurements are not in it: HAMS makes them again. Keep the file private: sources of streams may hold
    passwords.
    """
    from hams_services.ctl.actions import backup

    backup.backup(file, replace, nats, debug)


def restore(
    file: Annotated[Path, typer.Argument(help="A file of `hams-ctl backup`.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep existing groups and variants that differ from the backup's.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace them with the backup's.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Restore groups, variants and networks from a backup; other deployed groups stay.

    The whole file is checked before anything is written. If the broker holds a different group or variant of the same
    name, nothing is written without --keep or --replace.
    """
    if keep and replace:
        raise typer.BadParameter("give --keep or --replace, not both")
    from hams_services.ctl.actions import backup

    backup.restore(file, keep, replace, nats, debug)
