"""`hams-ctl sink`: results written somewhere, as they come. A sink is an ordinary subscriber."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO, Annotated

import typer

from hams_client import Hams, Result
from hams_services.ctl.commands_results import GroupName
from hams_services.ctl.console import err, out, with_bus
from hams_services.ctl.control import Control
from hams_services.ctl.options import Debug, Nats, address, check_address
from hams_shared.bus import Bus
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

Stream = Annotated[str, typer.Option(help="Only this stream.")]
Count = Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this many frames.")]

app = typer.Typer(
    help="Write results somewhere as they come: a video, a web page, lines of JSON, a folder of crops.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


async def _pictures(
    bus: Bus, group: str, stream: str, count: int | None, write: Callable[[Result, Pixels], None]
) -> None:
    """Give frames with their results to `write`, `count` of them or without end."""
    await Control(bus).deployed(group)
    if err.is_terminal:
        err.print(f"[dim]waiting for frames of {group} …[/dim]")
    seen = 0
    async with aclosing(Hams(bus).pictures(group, stream)) as pictures:
        async for result, image in pictures:
            write(result, image)
            seen += 1
            if seen == count:
                return


@app.command()
def video(
    group: GroupName,
    file: Annotated[Path, typer.Argument(help="Video to write: .mp4 or .avi.")],
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames/s it plays at.")] = 25.0,
    stream: Stream = "*",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write a video with what was found drawn in, until Ctrl-C; further streams get files of their own."""
    from hams_services.sinks.video import VideoFiles

    async def job(bus: Bus) -> None:
        files = VideoFiles(file, fps)
        try:
            await _pictures(bus, group, stream, count, files.write)
        finally:
            for path in files.close():
                out.print(f"written: {path}")

    with_bus(job, nats, debug, stopped_is_fine=count is None)


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
    from hams_services.sinks.mjpeg import MjpegServer

    host, port = address(listen)

    async def job(bus: Bus) -> None:
        server = MjpegServer(host, port, group)
        out.print(f"live at http://{host}:{server.port}/")
        try:
            await _pictures(bus, group, stream, None, server.write)
        finally:
            server.close()

    with_bus(job, nats, debug, stopped_is_fine=True)


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
    """Write a picture of each object found, until Ctrl-C."""
    from hams_services.sinks.crops import CropFolder

    async def job(bus: Bus) -> None:
        into = CropFolder(folder, frozenset(label or ()), least)
        try:
            await _pictures(bus, group, stream, count, into.write)
        finally:
            out.print(f"{into.written} pictures in {folder}")

    with_bus(job, nats, debug, stopped_is_fine=count is None)


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

    async def job(bus: Bus) -> None:
        await Control(bus).deployed(group)
        target = _append(file)
        seen = 0
        try:
            async for result in Hams(bus).results(group, stream):
                target.write(json.dumps(result.data, ensure_ascii=False) + "\n")
                target.flush()
                seen += 1
                if seen == count:
                    return
        finally:
            if target is not sys.stdout:
                target.close()

    with_bus(job, nats, debug, stopped_is_fine=count is None)


def _append(file: str) -> IO[str]:
    if file == "-":
        return sys.stdout
    try:
        return Path(file).open("a", encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot write {file}: {error.strerror}") from None
