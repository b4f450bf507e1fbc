"""Options of `hams-ctl deploy`, `undeploy` and `schema`; what they do is in `actions`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats, Strategy, Timeout, Wait, check_share, share

if TYPE_CHECKING:
    from hams_shared.bus.candidates import Trial

GroupFile = Annotated[Path, typer.Argument(help="The group file (YAML); see docs/group-yaml.md.")]

Shadow = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="Try it on this share of the frames, for example 10%: compare it with what serves, publish nothing.",
        callback=check_share,
    ),
]
Canary = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Let it serve this share of the frames, for example 10%.", callback=check_share),
]
Rule = Annotated[
    str,
    typer.Option(help='What must hold of a candidate, else it is dropped: "agreement >= 0.95 and failed < 0.01".'),
]
After = Annotated[int, typer.Option(min=1, help="Frames that a candidate is tried on before the rule counts.")]
Promote = Annotated[str, typer.Option(metavar="no|auto", help="auto: promote a candidate once its rule holds.")]


def deploy(
    file: GroupFile,
    strategy: Strategy = None,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    shadow: Shadow = None,
    canary: Canary = None,
    rule: Rule = "",
    after: After = 500,
    promote: Promote = "no",
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Deploy a group, or all groups of a list: fetch their networks, measure them on all devices, place them, start.

    Of a group that runs only what differs is touched (`hams-ctl diff FILE` shows it before); where nothing differs,
    nothing is done. With --shadow or --canary it becomes a candidate for the group of its name, which goes on serving.
    """
    from hams_services.ctl.actions import deploy

    trial = _trial(shadow, canary, rule, after, promote)
    deploy.deploy(file, strategy, deploy.After(wait, timeout, json), nats, debug, trial)


def _trial(shadow: str | None, canary: str | None, rule: str, after: int, promote: str) -> Trial | None:
    """How the file is tried; None: it is deployed. Raises typer.BadParameter."""
    from hams_shared.bus.candidates import Trial

    part = shadow or canary
    if shadow and canary:
        raise typer.BadParameter("give --shadow or --canary, not both")
    if promote not in ("no", "auto"):
        raise typer.BadParameter(f"{promote!r} is neither no nor auto", param_hint="--promote")
    if part is None:
        if rule or promote == "auto":
            raise typer.BadParameter("--rule and --promote go with --shadow or --canary")
        return None
    return Trial("shadow" if shadow else "canary", share(part), rule, after, promote == "auto")


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
    sys.stdout.write(files("hams_services.models").joinpath("group.schema.json").read_text(encoding="utf-8"))
