"""`hams-ctl backup` and `restore`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.backup import back_up, read
from hams_services.ctl.backup import restore as write_back
from hams_services.ctl.console import out, steps, with_bus
from hams_services.ctl.options import Debug, Nats
from hams_shared.bus import Bus


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write (tar).")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if it exists.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write what cannot be made again to one file: groups, variants, and the networks of both.

    Plans and measurements are found again. Keep the file to yourself: sources of streams may hold passwords.
    """

    async def job(bus: Bus) -> None:
        with steps() as progress:
            made = await back_up(bus, file, replace, progress)
        out.print(f"{file}: {made}, {file.stat().st_size / 2**20:.1f} MiB", markup=False, soft_wrap=True)

    with_bus(job, nats, debug)


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

    async def job(bus: Bus) -> None:
        found = await asyncio.to_thread(read, file)
        with steps() as progress:
            kept = await write_back(bus, found, keep, replace, progress)
        out.print(f"restored of {found.made_at}: {found}", markup=False, soft_wrap=True)
        for one in kept:
            out.print(f"  kept as it is: {one}", markup=False, soft_wrap=True)
        out.print("the scheduler places its groups now: hams-ctl status")

    with_bus(job, nats, debug)
