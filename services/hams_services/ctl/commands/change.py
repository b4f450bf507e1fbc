"""Options of the commands that change what runs, or tell what would change; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Json, Nats, Strategy, Timeout, Wait

stream = typer.Typer(
    no_args_is_help=True,
    help="Add, remove, pause and resume streams of a running group. This changes what runs, not your group file.",
)

StreamName = Annotated[str, typer.Argument(help="The stream's name.")]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE...",
        help="Keys as in the group file, by dots: nodes.face.task.threshold=0.6, streams.yard.gate.area=0.01; entries "
        "of lists by index. Values are YAML.",
        show_default=False,
    ),
]


def diff(
    file: Annotated[Path, typer.Argument(help="The group file (YAML); see docs/group-yaml.md.")],
    strategy: Strategy = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show what `deploy FILE` would change: each key, and what it touches.

    Nothing is changed; networks are fetched, so that new ones are known by their digest. The exit code is that of
    diff(1): 0 nothing differs, 1 something does; errors have codes from 2 on.
    """
    from hams_services.ctl.actions import diff

    diff.diff(file, strategy, json, nats, debug)


def set_(
    group: GroupName,
    assignments: Assignments = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="KEY", help="Take a key away, so that its default holds; repeat for more."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Change keys of a running group; only what they touch is touched.

    Keys and values are checked as those of a group file. This changes what runs, not your group file: `hams-ctl export
    GROUP` prints what runs as one.
    """
    if not assignments and not unset:
        raise typer.BadParameter("give KEY=VALUE, or --unset KEY")
    from hams_services.ctl.actions import change

    change.set_values(group, assignments or [], unset or [], change.After(wait, timeout, json), nats, debug)


@stream.command()
def add(
    group: GroupName,
    name: StreamName,
    source: Annotated[str, typer.Argument(help="As `source` in the group file: a file, rtsp://…, camera:0, push.")],
    live: Annotated[
        bool, typer.Option("--live/--lossless", help="Drop the oldest frame when the group is slower, or wait.")
    ] = True,
    fps: Annotated[float | None, typer.Option(help="Of a file: frames/s to play at. Default: its own.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Of a file: start again at its end.")] = False,
    substream: Annotated[
        str | None, typer.Option(metavar="URL", help="A smaller stream of the same camera, for the root node.")
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another key: pace=max, gate.area=0.01; repeat for more."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Add a stream to a running group; the others go on without losing a frame."""
    from hams_services.ctl.actions import change

    keys = {
        "source": source,
        "mode": None if live else "lossless",
        "fps": fps,
        "loop": loop or None,
        "substream": substream,
    }
    given = {key: value for key, value in keys.items() if value is not None}
    change.add_stream(group, name, given, more or [], change.After(wait, timeout, json), nats, debug)


@stream.command()
def remove(
    group: GroupName,
    name: StreamName,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Take a stream away from a running group; the others go on without losing a frame."""
    from hams_services.ctl.actions import change

    change.remove_stream(group, name, change.After(wait, timeout, json), nats, debug)


@stream.command()
def pause(
    group: GroupName,
    name: StreamName,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Take no more frames of a stream until `resume`, over restarts too."""
    from hams_services.ctl.actions import change

    change.pause_stream(group, name, True, change.After(wait, timeout, json), nats, debug)


@stream.command()
def resume(
    group: GroupName,
    name: StreamName,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Take frames of a paused stream again."""
    from hams_services.ctl.actions import change

    change.pause_stream(group, name, False, change.After(wait, timeout, json), nats, debug)


def versions(group: GroupName, json: Json = False, nats: Nats = None, debug: Debug = False) -> None:
    """List the last versions of a group: when, who, and what changed.

    Ten are kept beside the one that runs; of an undeployed group for 30 days.
    """
    from hams_services.ctl.actions import versions

    versions.versions(group, json, nats, debug)


def rollback(
    group: GroupName,
    version: Annotated[
        int | None, typer.Argument(min=0, help="A version of `hams-ctl versions`. Default: the one before.")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Run an earlier version of a group again, as a new version. An undeployed group is deployed again."""
    from hams_services.ctl.actions import change, versions

    versions.rollback(group, version, change.After(wait, timeout, json), nats, debug)


def export(
    group: GroupName,
    secrets: Annotated[bool, typer.Option("--secrets", help="Write passwords and tokens in addresses, too.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print a running group as a group file, with all changes since it was deployed."""
    from hams_services.ctl.actions import change

    change.export(group, secrets, nats, debug)
