"""Options of `hams-ctl deploy`, `undeploy`, `plan` and `schema`; what they do is in `actions`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats, Strategy

GroupFile = Annotated[Path, typer.Argument(help="The group file (YAML); see docs/group-yaml.md.")]


def deploy(
    file: GroupFile,
    strategy: Strategy = None,
    wait: Annotated[bool, typer.Option(help="Wait until the group serves.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait.")] = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Deploy a group, or all groups of a list: fetch their networks, measure them on all devices, place them, start."""
    from hams_services.ctl.actions import deploy

    deploy.deploy(file, strategy, wait, timeout, json, nats, debug)


def undeploy(
    name: Annotated[str, typer.Argument(help="The group's name.")],
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Stop a group: its streams end, its networks are unloaded."""
    from hams_services.ctl.actions import deploy

    deploy.undeploy(name, nats, debug)


def plan(
    file: Annotated[Path | None, typer.Argument(help="The group file (YAML); see docs/group-yaml.md.")] = None,
    instance: Annotated[Path | None, typer.Option(help="Plan a matrix from a JSON file, without a system.")] = None,
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="A strategy, several by commas, or all.")] = "all",
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.01, max=600, help="For each strategy that searches, s.")
    ] = 1.0,
    explain: Annotated[bool, typer.Option("--explain", help="Show why each node is on its device.")] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            help="With --instance, first: add:DEVICE, add:PROFILE.yaml, remove:DEVICE, scale:DEVICE=1.5 cores:HOST=+4."
        ),
    ] = None,
    max_streams: Annotated[
        float | None, typer.Option(help="With --instance: also the number of streams of this FPS that fit.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="With --instance: hams (default), or paper: one model per device.")
    ] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the plan of each strategy, and why; nothing is deployed.

    With a group file: on the devices that run; groups of a list are placed together. With --instance: on a matrix
    from a file, such as a saved `hams-ctl matrix --json`, after the changes of --what-if.
    """
    if (file is None) == (instance is None):
        raise typer.BadParameter("give a group file, or --instance FILE")
    from hams_services.ctl.actions import deploy

    if instance is not None:
        what = (strategy, time_limit, explain, what_if or [], max_streams, objective)
        deploy.plan_instance(instance, *what, json, debug)
    elif what_if or max_streams or objective:
        raise typer.BadParameter("--what-if, --max-streams and --objective go with --instance")
    elif file is not None:
        deploy.plan_group(file, strategy, time_limit, explain, json, nats, debug)


def schema() -> None:
    """Print the JSON Schema of group.yaml; editors complete and check group files with it.

    Save it next to the group file, and begin that with: # yaml-language-server: $schema=group.schema.json
    """
    sys.stdout.write(files("hams_services.ctl").joinpath("group.schema.json").read_text(encoding="utf-8"))
