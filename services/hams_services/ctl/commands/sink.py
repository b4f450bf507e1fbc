"""Options of `hams-ctl sink` commands; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Nats, check_address, check_kinds

Stream = Annotated[str, typer.Option(help="Only this stream.")]
Count = Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this many frames.")]

app = typer.Typer(
    help="Write results as they arrive: to a video, a web page, lines of JSON, folders of crops or clips; post events.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def video(
    group: GroupName,
    file: Annotated[Path, typer.Argument(help="Video to write: .mp4 or .mkv.")],
    stream: Stream = "*",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write a video with the results drawn in, each frame at its own time, until Ctrl-C; one file per stream."""
    from hams_services.ctl.actions import sink

    sink.video(group, file, stream, count, nats, debug)


@app.command()
def mjpeg(
    group: GroupName,
    listen: Annotated[
        str, typer.Option(help="Address and port to serve on.", callback=check_address)
    ] = "127.0.0.1:8088",
    stream: Stream = "*",
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the streams live on a web page (Motion JPEG), until Ctrl-C."""
    from hams_services.ctl.actions import sink

    sink.mjpeg(group, listen, stream, nats, debug)


@app.command()
def crops(
    group: GroupName,
    folder: Annotated[Path, typer.Argument(help="Folder to write into.")],
    label: Annotated[list[str] | None, typer.Option(help="Only objects with this label; repeat for more.")] = None,
    least: Annotated[float, typer.Option(min=0, max=1, help="Least score of an object.")] = 0.0,
    stream: Stream = "*",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write an image of each object found, until Ctrl-C."""
    from hams_services.ctl.actions import sink

    sink.crops(group, folder, label or [], least, stream, count, nats, debug)


@app.command()
def jsonl(
    group: GroupName,
    file: Annotated[str, typer.Argument(help="File to append to; - is the standard output.")] = "-",
    stream: Stream = "*",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Append each joined result as a line of JSON, until Ctrl-C."""
    from hams_services.ctl.actions import sink

    sink.jsonl(group, file, stream, count, nats, debug)


@app.command()
def webhook(
    group: GroupName,
    url: Annotated[str, typer.Argument(help="Web address to post each event to, as JSON.")],
    rule: Annotated[list[str] | None, typer.Option(help="Only events of this rule; repeat for more.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only these kinds of events, separated by commas.", callback=check_kinds)
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="File that keeps the last event sent: a restart continues behind it.")
    ] = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Post events of tracks to a web address, each at least once and in order, until Ctrl-C.

    An answer other than 2xx is tried again with growing pauses; 3xx and 4xx (but 408, 425, 429) are refusals.
    """
    from hams_services.ctl.actions import sink

    sink.webhook(group, url, rule or [], kind, stream, state, nats, debug)


@app.command()
def clips(
    group: GroupName,
    folder: Annotated[Path, typer.Argument(help="Folder to write into; one for each `sink clips` that runs.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only events of this rule; repeat for more.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="These kinds of events, separated by commas. Default: events of rules.", callback=check_kinds
        ),
    ] = None,
    before: Annotated[float, typer.Option(min=0, max=60, help="Begin so long before the event, s.")] = 5.0,
    after: Annotated[float, typer.Option(min=0, max=600, help="Go on so long after the event, s.")] = 5.0,
    annotate: Annotated[bool, typer.Option("--annotate/--plain", help="Draw the results in, or not.")] = True,
    crop: Annotated[bool, typer.Option("--crop", help="Write the best crop of each event's track, too.")] = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write a short video of each event, from before to after it, until Ctrl-C.

    Events that follow each other closely share a video. FOLDER/clips.jsonl has a line for each event.
    """
    from hams_services.ctl.actions import clips

    clips.clips(group, folder, stream, rule or [], kind, (before, after), annotate, crop, nats, debug)
