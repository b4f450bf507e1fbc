"""What `hams-ctl sink` does: it writes results as they arrive. A sink is an ordinary subscriber."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from hams_client import Hams, Result
from hams_services.ctl.actions.known import ANY, check
from hams_services.ctl.console import err, out, to_stdout, with_bus
from hams_shared.bus.control import Control, is_app
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError, SourceError
from hams_shared.group.regions import Regions
from hams_shared.runtime.listen import host_port
from hams_shared.runtime.options import address
from hams_shared.wire import codec
from hams_shared.wire.frames import Pixels

if TYPE_CHECKING:
    from hams_services.sinks.painter import Painter  # half a second of imports that `jsonl` saves

T = TypeVar("T")


async def pictures(
    bus: Bus,
    group: str,
    stream: str,
    count: int | None,
    write: Callable[[Result, Pixels], None],
    painter: Painter | None = None,
) -> None:
    """Pass frames with their results to `write`, `count` of them or without end. `painter` gets the group's places."""
    await frames(bus, group, Hams(bus).pictures(group, stream), count, write, painter, stream)


async def frames(
    bus: Bus,
    group: str,
    source: AsyncGenerator[tuple[Result, T], None],
    count: int | None,
    write: Callable[[Result, T], None],
    painter: Painter | None = None,
    stream: str = ANY,
) -> None:
    """Pass the frames of `source`, those of `stream`, to `write`; see :func:`pictures`."""
    await check(bus, group, stream)
    if err.is_terminal:
        err.print(f"waiting for frames of {group} …", style="dim")
    seen, epoch = 0, 0
    async with aclosing(source) as found:
        async for result, image in found:
            if painter is not None and result.data["epoch"] != epoch:  # the group may have been deployed anew
                epoch = result.data["epoch"]
                painter.regions = await places(bus, group) or painter.regions
            write(result, image)
            seen += 1
            if seen == count:
                return


async def places(bus: Bus, group: str) -> Mapping[str, Regions]:
    """Return the zones, lines and masks of a group's streams; none for applications, which may not ask."""
    try:
        view = None if is_app() else await Control(bus).deployed(group)
    except HamsError:
        return {}  # a picture without them is better than none
    plan = view and (view.active or view.next)
    return plan.group.spec.streams if plan else {}


def video(group: str, file: Path, stream: str, count: int | None, nats: str | None, debug: bool) -> None:
    """Write videos with the results drawn in."""
    from hams_services.sinks.painter import Painter
    from hams_services.sinks.video import VideoFiles

    async def job(bus: Bus) -> None:
        painter = Painter()
        files = VideoFiles(file, painter)
        try:
            await pictures(bus, group, stream, count, files.write, painter)
        finally:
            for path in files.close():
                out.print(f"written: {path}")

    with_bus(job, nats, debug, stopped_is_fine=count is None)


def mjpeg(group: str, listen: str, stream: str, nats: str | None, debug: bool) -> None:
    """Serve the streams as Motion JPEG on `listen`, HOST:PORT."""
    from hams_services.sinks.mjpeg_server import MjpegServer
    from hams_services.sinks.painter import Painter

    host, port = address(listen)

    async def job(bus: Bus) -> None:
        painter = Painter()
        server = MjpegServer(host, port, group, painter)
        out.print(f"live at http://{host_port(host, server.port)}/")
        try:
            await pictures(bus, group, stream, None, server.write, painter)
        finally:
            server.close()

    with_bus(job, nats, debug, stopped_is_fine=True)


def crops(
    group: str,
    folder: Path,
    labels: list[str],
    least: float,
    stream: str,
    count: int | None,
    keep_s: float | None,
    nats: str | None,
    debug: bool,
) -> None:
    """Write an image of each object found; those of `keep_s` s ago are deleted, None: never."""
    from hams_services.sinks.crops import CropFolder
    from hams_services.sinks.retention import keep_clean

    async def job(bus: Bus) -> None:
        into = CropFolder(folder, frozenset(labels), least)
        try:
            async with asyncio.TaskGroup() as owner:
                cleaning = owner.create_task(keep_clean(into.lists, keep_s))
                await pictures(bus, group, stream, count, into.write)
                cleaning.cancel()
        finally:
            out.print(f"{into.written} pictures in {folder}")

    with_bus(job, nats, debug, stopped_is_fine=count is None)


def jsonl(group: str, file: str, stream: str, count: int | None, nats: str | None, debug: bool) -> None:
    """Append each joined result to `file` as a line of JSON."""

    async def job(bus: Bus) -> None:
        await check(bus, group, stream)
        target = _append(file)
        seen = 0
        try:
            async for result in Hams(bus).results(group, stream):
                with to_stdout():
                    target.write(codec.pack_json(result.data).decode() + "\n")
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
