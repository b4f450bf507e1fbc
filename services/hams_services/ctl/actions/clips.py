"""What `hams-ctl sink clips` does."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hams_client import Hams
from hams_services.ctl.actions.events import wanted
from hams_services.ctl.actions.known import ANY
from hams_services.ctl.actions.sink import frames
from hams_services.ctl.console import err, out, with_bus
from hams_services.ctl.options import kinds_of
from hams_shared.bus.protocol import Bus

if TYPE_CHECKING:
    from hams_services.sinks.clips import ClipSink
    from hams_services.sinks.painter import Painter

QUALITY = 85
"""Of the JPEG frames that wait in memory, 1-100."""


@dataclass(frozen=True)
class Asked:
    """Which clips are asked for. `before` and `after` in s."""

    group: str
    folder: Path
    stream: str | None
    rules: Collection[str]
    kinds: Collection[str]
    before: float
    after: float
    annotate: bool
    crop: bool
    keep_s: float | None = None
    """Clips are deleted after so long, s; None: never."""


def clips(
    group: str,
    folder: Path,
    stream: str | None,
    rules: list[str],
    kind: str | None,
    spans: tuple[float, float],
    annotate: bool,
    crop: bool,
    keep_s: float | None,
    nats: str | None,
    debug: bool,
) -> None:
    """Write short videos of events of `rules`, or of the kinds in `kind`; `spans`: s before and after an event."""
    asked = Asked(group, folder, stream, rules, kinds_of(kind or "rule"), *spans, annotate, crop, keep_s)

    async def job(bus: Bus) -> None:
        await write_clips(bus, asked)

    with_bus(job, nats, debug, stopped_is_fine=True)


async def write_clips(bus: Bus, asked: Asked) -> None:
    """Write clips until cancelled, or until something fails. Raises SourceError and those of the bus."""
    from hams_services.sinks.clip_core import ClipCore
    from hams_services.sinks.clips import ClipFolder, ClipSink
    from hams_services.sinks.painter import Painter
    from hams_services.sinks.retention import keep_clean

    painter = Painter() if asked.annotate else None
    folder = ClipFolder(asked.folder, painter, crops=asked.crop)
    core = ClipCore(asked.before, asked.after)
    sink = ClipSink(core, folder, asyncio.get_running_loop().time, lambda path: out.print(f"written: {path}"))
    try:
        jobs = [_read_frames(bus, asked, sink, painter), _read_events(bus, asked, sink)]
        if asked.keep_s is not None:
            jobs.append(keep_clean(lambda: [folder.kept], asked.keep_s))
        await sink.run(jobs)
    finally:
        if folder.missed:
            err.print(f"{folder.missed} events without a clip: their frames were gone; {folder.list} has them")


async def _read_frames(bus: Bus, asked: Asked, sink: ClipSink, painter: Painter | None) -> None:
    found = Hams(bus).jpegs(asked.group, asked.stream or "*", quality=QUALITY)
    await frames(bus, asked.group, found, None, sink.frame, painter, asked.stream or ANY)


async def _read_events(bus: Bus, asked: Asked, sink: ClipSink) -> None:
    async with aclosing(Hams(bus).events(asked.group, asked.stream, after=sink.after)) as events:
        async for event in events:
            await sink.event(event, wanted=wanted(event, asked.kinds, asked.rules))
