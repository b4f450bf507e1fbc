"""Options of `hams-ctl diagnose`; what it does is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Nats


def diagnose(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file to write (default: hams-diagnose-TIME.tar.gz).", show_default=False),
    ] = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write the data for a fault report to one file: versions, devices, groups, plans, matrix, status, logs, broker.

    Passwords are hidden; credentials and keys are not in it. Without a broker, the file holds the data of this host.
    """
    from hams_services.ctl.actions import diagnose

    diagnose.diagnose(out, nats, debug)
