"""What `hams-ctl events` does."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Collection, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hams_client import Event, Hams
from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.options import duration_s, kinds_of
from hams_services.sinks.disk import write
from hams_shared.bus.protocol import Bus

SINCE_S = 3600.0
"""How far back stored events are printed by default, s."""

COLUMNS = (("time", 14), ("stream", 12), ("event", 20), ("track", 6), ("object", 14), ("age", 8), ("zones", 24))
"""Names and widths, characters; those that do not fit the console are left out from the end."""
GAP = 2


def events(
    group: str,
    stream: str | None,
    follow: bool,
    since: str | None,
    kind: str | None,
    crops: Path | None,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Print stored events, and if `follow` also new ones."""
    seconds = duration_s(since) if since is not None else 0.0 if follow else SINCE_S
    kinds = kinds_of(kind)

    async def job(bus: Bus) -> None:
        found = Hams(bus).events(group, stream, since=seconds, follow=follow)
        if follow and err.is_terminal and not json:
            err.print(f"waiting for events of {group} …", style="dim")
        printed = 0
        async with aclosing(found):
            async for event in found:
                if event.kind in kinds:
                    if crops is not None:
                        await asyncio.to_thread(write_crop, crops, event)
                    _print(event, json, first=not printed)
                    printed += 1
        if not printed and not json:
            err.print(f"no such events in the last {since or '1h'}; for older ones: --since 7d")

    with_bus(job, nats, debug, stopped_is_fine=follow)


def write_crop(folder: Path, event: Event) -> Path | None:
    """Write the crop of an event, if it has one; return its file. Raises SourceError.

    Its name has the time (UTC), the stream, and what makes the event's id unique: one that comes again is written over.
    """
    if event.crop is None:
        return None
    time = datetime.fromtimestamp(event.captured, UTC)
    what = event.id.removeprefix(f"{event.group}.{event.stream}.")
    name = f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03d}Z-{event.stream}-{what}.jpg"
    path = folder / re.sub(r"[^\w.-]", "_", name)
    write(path, event.crop, "wb")
    return path


def _print(event: Event, json: bool, *, first: bool) -> None:
    if json:
        print_json(as_map(event))
        return
    if first:
        out.print(line([name for name, _ in COLUMNS], out.width), style="dim")
    out.print(line(cells(event), out.width), soft_wrap=True)


def as_map(event: Event) -> dict[str, Any]:
    """Return an event as plain values; its crop as Base64."""
    crop = None if event.crop is None else base64.b64encode(event.crop).decode()
    return {**event.model_dump(exclude={"crop"}), "crop": crop}


def line(cells: Sequence[str], width: int) -> str:
    """Return cells of COLUMNS as a line of at most `width` characters; longer cells are cut."""
    parts: list[str] = []
    left = width + GAP
    for text, (_, wide) in zip(cells, COLUMNS, strict=True):
        left -= wide + GAP
        if left < 0:
            break
        parts.append((text if len(text) <= wide else text[: wide - 1] + "…").ljust(wide))
    return (" " * GAP).join(parts).rstrip()


def cells(event: Event) -> list[str]:
    """Return the cells of COLUMNS for an event; its time is that of this host's time zone."""
    return [
        f"{datetime.fromtimestamp(event.captured).astimezone():%m-%d %H:%M:%S}",
        event.stream,
        what(event),
        f"#{event.track}",
        f"{event.label or 'object'} {event.score:.2f}",
        f"{event.age_s:.1f} s",
        ", ".join(event.zones),
    ]


def what(event: Event) -> str:
    """Return what happened in a few words."""
    texts: dict[str, str] = {
        "end": f"end {event.reason}",
        "zone_entered": f"entered {event.zone}",
        "zone_left": f"left {event.zone} {event.dwell_s:.1f} s",
        "zone_dwell": f"in {event.zone} {event.dwell_s:.1f} s",
        "line_crossed": f"crossed {event.line} {event.direction}",
        "rule": f"rule {event.rule}",
    }
    return texts.get(event.kind, event.kind).rstrip()


def wanted(event: Event, kinds: Collection[str], rules: Collection[str]) -> bool:
    """Whether an event is of one of `kinds` and, where `rules` are given, of one of these."""
    return event.kind in kinds and (not rules or event.rule in rules)
