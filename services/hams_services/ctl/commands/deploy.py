"""Options of `hams-ctl deploy`, `undeploy` and `schema`; what they do is in `actions`."""

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


def schema() -> None:
    """Print the JSON Schema of group.yaml; editors complete and check group files with it.

    Save it next to the group file, and begin that with: # yaml-language-server: $schema=group.schema.json
    """
    sys.stdout.write(files("hams_services.ctl").joinpath("group.schema.json").read_text(encoding="utf-8"))
