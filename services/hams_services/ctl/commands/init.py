"""Options of `hams-ctl init`; what it does is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug


def init(
    folder: Annotated[Path, typer.Option("--dir", help="Folder to make, or to add to.")] = Path("secrets"),
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address under which other boxes reach the broker; repeat for more."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="A box that brings devices, by its HAMS_HOST; repeat for more (default: this one)."),
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(help="A broker of a cluster, by the name or address under which others reach it; three or more."),
    ] = None,
    leaf: Annotated[
        list[str] | None,
        typer.Option(help="A box with a broker of its own that is a leaf of the cluster; by its name."),
    ] = None,
    renew_broker: Annotated[bool, typer.Option("--renew-broker", help="Make brokers' certificates anew.")] = False,
    broker_dir: Annotated[
        str, typer.Option(help="Where the broker finds its files: that of the official image's container.")
    ] = "/etc/nats",
    broker_store: Annotated[str, typer.Option(help="Where the broker keeps its data.")] = "/data",
    debug: Debug = False,
) -> None:
    """Make keys, certificates and users, so that only who has credentials gets to the broker, and only over TLS.

    Run again with --box NAME to let another box in; what is there is kept. With --cluster there is a folder for each
    of the cluster's boxes, with all that its broker needs.
    """
    from hams_services.ctl.actions import init

    init.init(folder, host or [], box or [], cluster, leaf, renew_broker, broker_dir, broker_store, debug)
