"""Options of `hams-ctl status`, `devices` and `matrix`; what they do is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats


def status(json: Json = False, nats: Nats = None, debug: Debug = False) -> None:
    """Show groups, streams with their frame ledgers, and devices."""
    from hams_services.ctl.actions import show

    show.status(json, nats, debug)


devices = typer.Typer(invoke_without_command=True, help="Show the devices of the system, and resume quarantined ones.")


@devices.callback()
def show_devices(
    context: typer.Context,
    discover_: Annotated[
        bool, typer.Option("--discover", help="Show the devices of this host, without a running system.")
    ] = False,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the devices of the system, or with --discover those of this host."""
    if context.invoked_subcommand is not None:
        return
    from hams_services.ctl.actions import show

    if discover_:
        show.discovered(json, debug)
    else:
        show.devices(json, nats, debug)


@devices.command("list")
def list_devices(json: Json = False, nats: Nats = None, debug: Debug = False) -> None:
    """Show the devices of the system."""
    from hams_services.ctl.actions import show

    show.devices(json, nats, debug)


@devices.command()
def resume(
    device: Annotated[str, typer.Argument(help="Device id, as `devices` shows it.")],
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """End the quarantine of a device that hung or failed: it gets work again, also for networks that were out."""
    from hams_services.ctl.actions import show

    show.resume(device, nats, debug)


def matrix(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="With --measure: only this model, or those of a pattern.")
    ] = "",
    device: Annotated[
        str, typer.Argument(metavar="[DEVICE]", help="With --measure: only this device, or those of a pattern.")
    ] = "",
    json: Json = False,
    variants: Annotated[
        bool, typer.Option("--variants", help="Also show the variants of each node, and why some may not serve.")
    ] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV; empty cells are unsupported pairs.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure again first: all cells, or those of MODEL and DEVICE.")
    ] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the FPS matrix: the frames/s of each deployed model running alone on each device."""
    from hams_services.ctl.actions import show

    if (model or device) and not measure:
        raise typer.BadParameter("MODEL and DEVICE go with --measure")
    show.matrix((model, device) if measure else None, json, variants, csv_, nats, debug)
