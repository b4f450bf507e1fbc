"""What `hams-ctl sink` does: it writes results as they arrive. A sink is an ordinary subscriber."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO

from hams_client import Hams, Result
from hams_services.ctl.actions.events import wanted
from hams_services.ctl.console import err, out, with_bus
from hams_services.ctl.control import check_known
from hams_services.ctl.options import address, kinds_of
from hams_shared.bus.protocol import Bus
from hams_shared.bus.urls import host_port
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels


async def _pictures(
    bus: Bus, group: str, stream: str, count: int | None, write: Callable[[Result, Pixels], None]
) -> None:
    """Pass frames with their results to `write`, `count` of them or without end."""
    await check_known(bus, group)
    if err.is_terminal:
        err.print(f"waiting for frames of {group} …", style="dim")
    seen = 0
    async with aclosing(Hams(bus).pictures(group, stream)) as pictures:
        async for result, image in pictures:
            write(result, image)
            seen += 1
            if seen == count:
                return


def video(group: str, file: Path, stream: str, count: int | None, nats: str | None, debug: bool) -> None:
    """Write videos with the results drawn in."""
    from hams_services.sinks.video import VideoFiles

    async def job(bus: Bus) -> None:
        files = VideoFiles(file)
        try:
            await _pictures(bus, group, stream, count, files.write)
        finally:
            for path in files.close():
                out.print(f"written: {path}")

    with_bus(job, nats, debug, stopped_is_fine=count is None)


def mjpeg(group: str, listen: str, stream: str, nats: str | None, debug: bool) -> None:
    """Serve the streams as Motion JPEG on `listen`, HOST:PORT."""
    from hams_services.sinks.mjpeg_server import MjpegServer

    host, port = address(listen)

    async def job(bus: Bus) -> None:
        server = MjpegServer(host, port, group)
        out.print(f"live at http://{host_port(host, server.port)}/")
        try:
            await _pictures(bus, group, stream, None, server.write)
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
    nats: str | None,
    debug: bool,
) -> None:
    """Write an image of each object found."""
    from hams_services.sinks.crops import CropFolder

    async def job(bus: Bus) -> None:
        into = CropFolder(folder, frozenset(labels), least)
        try:
            await _pictures(bus, group, stream, count, into.write)
        finally:
            out.print(f"{into.written} pictures in {folder}")

    with_bus(job, nats, debug, stopped_is_fine=count is None)


def jsonl(group: str, file: str, stream: str, count: int | None, nats: str | None, debug: bool) -> None:
    """Append each joined result to `file` as a line of JSON."""

    async def job(bus: Bus) -> None:
        await check_known(bus, group)
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


def webhook(
    group: str,
    url: str,
    rules: list[str],
    kind: str | None,
    stream: str | None,
    state: Path | None,
    nats: str | None,
    debug: bool,
) -> None:
    """Post events to `url`; of `rules` if given, else of the kinds in `kind`."""
    from hams_services.sinks.webhook import LastSequence, Webhook

    kinds = ("rule",) if rules and kind is None else kinds_of(kind)

    async def job(bus: Bus) -> None:
        hook, last = Webhook(url), LastSequence(state)
        async with aclosing(Hams(bus).events(group, stream, after=last.read())) as events:
            async for event in events:
                if wanted(event, kinds, rules):
                    await hook.send(event)
                    last.write(event.sequence)

    with_bus(job, nats, debug, stopped_is_fine=True)


def _append(file: str) -> IO[str]:
    if file == "-":
        return sys.stdout
    try:
        return Path(file).open("a", encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot write {file}: {error.strerror}") from None
