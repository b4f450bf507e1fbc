"""Options of `hams-ctl init`; what it does is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug


def init(
    folder: Annotated[Path, typer.Option("--dir", help="Folder to create, or to add to.")] = Path("secrets"),
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address under which other boxes reach the broker; repeat for more."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="A box with devices, by its HAMS_HOST; repeat for more (default: this one)."),
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(help="A broker of a cluster, by the name or address under which others reach it; three or more."),
    ] = None,
    leaf: Annotated[
        list[str] | None,
        typer.Option(help="A box whose own broker is a leaf of the cluster, by its name."),
    ] = None,
    renew_broker: Annotated[bool, typer.Option("--renew-broker", help="Replace the brokers' certificates.")] = False,
    broker_dir: Annotated[
        str, typer.Option(help="Folder of the broker's files (default: as in the official image).")
    ] = "/etc/nats",
    broker_store: Annotated[str, typer.Option(help="Folder of the broker's data.")] = "/data",
    debug: Debug = False,
) -> None:
    """Create keys, certificates and users. Afterwards only clients with credentials can connect, over TLS.

    To add a box, run it again with --box NAME; existing files are kept. With --cluster each box of the cluster gets a
    folder with all files of its broker.
    """
    from hams_services.ctl.actions import init

    init.init(folder, host or [], box or [], cluster, leaf, renew_broker, broker_dir, broker_store, debug)
