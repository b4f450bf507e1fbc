"""Options of `hams-ctl init-group`; what it does is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug


def init_group(
    network: Annotated[str, typer.Argument(help="A network file, zoo:NAME, pypi:… or a folder with an IR.")],
    stream: Annotated[
        str | None,
        typer.Argument(metavar="[VIDEO]", help="A video, a folder of images, camera:0, rtsp://…; none: add it later."),
    ] = None,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: NAME.yaml]")] = None,
    name: Annotated[str | None, typer.Option(help="The group's name. [default: that of the network file]")] = None,
    task: Annotated[
        str | None, typer.Option(help="The task, where the likeliest is not right: see `hams-ctl models inspect`.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of the classes, one a line, where the network file does not hold them.")
    ] = None,
    child: Annotated[
        list[str] | None, typer.Option(help="A network that looks at the objects of the first; repeat for more.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a group file for a network of your own: its task, input and class names as far as its file gives them.

    What is a guess is marked in the written file, with how to check it.
    """
    from hams_services.ctl.actions import init_group

    init_group.init_group(network, stream, file, name, task, labels, child or [], force, debug)
