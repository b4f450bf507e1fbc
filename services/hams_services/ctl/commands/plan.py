"""Options of `hams-ctl plan`; what it does is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import EACH, Debug, Json, Nats

Files = Annotated[list[Path] | None, typer.Argument(help="Group files (YAML), which are placed together.")]
Matrix = Annotated[Path | None, typer.Option(help="Plan a matrix from a JSON file, without a system.")]
Strategies = Annotated[str, typer.Option("--strategy", "-s", help="A strategy, several by commas, or all.")]
Limit = Annotated[
    float, typer.Option("--time-limit", min=0.01, max=600, help="For each strategy that searches, and --survive, s.")
]
Explain = Annotated[bool, typer.Option("--explain", help="Show why each node is on its device.")]
WhatIf = Annotated[
    list[str] | None,
    typer.Option(
        help="remove:each: a table of what is left without each device (by `optimal`, or --strategy). With --instance, "
        "first: add:DEVICE, add:PROFILE.yaml, remove:DEVICE, scale:DEVICE=1.5 cores:HOST=+4."
    ),
]
Streams = Annotated[
    float | None, typer.Option(min=0.01, help="Also the number of streams of this FPS that fit, by group.")
]
Objective = Annotated[str | None, typer.Option(help="With --instance: hams (default), or paper: one model per device.")]
Survive = Annotated[
    int | None,
    typer.Option(min=1, max=1, help="1: place so that each group keeps --keep of its target when any device is lost."),
]
Keep = Annotated[
    float | None,
    typer.Option(
        min=0.01, max=1, help="With --survive: the part of the target, or of the FPS without it. [default: 0.5]"
    ),
]
Reserve = Annotated[
    bool, typer.Option("--reserve-memory", help="With --survive: keep memory for all fallbacks at once, to load them.")
]


def plan(
    files: Files = None,
    instance: Matrix = None,
    strategy: Strategies = "all",
    time_limit: Limit = 1.0,
    explain: Explain = False,
    what_if: WhatIf = None,
    max_streams: Streams = None,
    objective: Objective = None,
    survive: Survive = None,
    keep: Keep = None,
    reserve_memory: Reserve = False,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the plan of each strategy, and why; nothing is deployed.

    With group files: on the devices that run; all their groups are placed together. With --instance: on a matrix
    from a file, such as a saved `hams-ctl matrix --json`, after the changes of --what-if.
    """
    if (not files) == (instance is None):
        raise typer.BadParameter("give group files, or --instance FILE")
    if instance is None and (set(what_if or ()) - {EACH} or objective):
        raise typer.BadParameter("--what-if but remove:each, and --objective go with --instance")
    if survive is None and (keep is not None or reserve_memory):
        raise typer.BadParameter("--keep and --reserve-memory go with --survive 1")
    if survive is not None and (strategy != "all" or EACH in (what_if or ())):
        raise typer.BadParameter("--survive has a search and a table of losses of its own: no --strategy, remove:each")
    from hams_services.ctl.actions import plan
    from hams_services.ctl.actions.offline_plan import PlanOptions

    searched = (strategy, time_limit, explain, tuple(what_if or ()), max_streams, objective)
    options = PlanOptions(*searched, survive is not None, keep or 0.5, reserve_memory)
    if instance is not None:
        plan.plan_instance(instance, options, json, debug)
    else:
        plan.plan_groups(files or [], options, json, nats, debug)
