"""Live pictures: one subscription per stream that somebody looks at, shared by all who do.

The pipeline makes the previews (scaled down, with their results), only while they are requested. A viewer takes the
newest of each of its streams, so a slow one misses some and holds up nobody.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hams_services.web.costs import Costs
from hams_shared.bus.chunks import Assembler
from hams_shared.bus.protocol import Bus, Message, Subscription
from hams_shared.errors import HamsError, MessageError, OverloadedError
from hams_shared.runtime.lifecycle import Jobs
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import REQUEST_LEASE_S, FramePreview, PreviewWanted

log = logging.getLogger("hams.web")

Tile = tuple[str, str]
"""Group and stream."""

FPS, WIDTH, QUALITY = 5.0, 640, 70
"""Of the pictures: how many a second at most, pixels, of 100."""
MOST_TILES = 64
"""Most streams of one viewer, and of all viewers together."""
QUIET_S = 15.0
"""Without a picture for this long a viewer gets an empty record, by which one that went away is found, s."""
NOTHING = struct.pack(">II", 0, 0)


@dataclass
class _Source:
    """One stream that somebody looks at."""

    viewers: set[_Viewer] = field(default_factory=set)
    asking: asyncio.Task[None] | None = None
    record: bytes = b""
    """The newest, as viewers get it."""


@dataclass(eq=False)
class _Viewer:
    """What waits to be sent to one viewer: at most the newest record of each stream."""

    waiting: dict[Tile, bytes] = field(default_factory=dict)
    come: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, tile: Tile, record: bytes) -> None:
        self.waiting.pop(tile, None)
        self.waiting[tile] = record
        self.come.set()


class Pictures:
    """The pictures of all streams that somebody looks at."""

    def __init__(self, bus: Bus, costs: Costs, jobs: Jobs) -> None:
        self._bus, self._costs, self._jobs = bus, costs, jobs
        self._sources: dict[Tile, _Source] = {}

    @property
    def streams(self) -> int:
        """How many streams somebody looks at."""
        return len(self._sources)

    def check(self, tiles: Iterable[Tile]) -> None:
        """Raise OverloadedError when too many streams would be looked at with these."""
        if len(self._sources.keys() | set(tiles)) > MOST_TILES:
            raise OverloadedError(f"more than {MOST_TILES} streams are looked at", "close other pages")

    async def viewer(self, tiles: Iterable[Tile]) -> AsyncGenerator[bytes, None]:
        """Yield records of these streams as they come, until closed; see :func:`record`.

        Whoever answers a request with them calls :meth:`check` first: here an error comes after the answer has begun.

        Raises:
            OverloadedError: too many streams.
        """
        wanted = set(tiles)
        self.check(wanted)
        viewer = _Viewer()
        try:
            for tile in wanted:
                self._join(tile, viewer)
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        await viewer.come.wait()
                except TimeoutError:
                    yield NOTHING
                viewer.come.clear()
                records, viewer.waiting = list(viewer.waiting.values()), {}
                if records:
                    self._costs.sent(records)
                    yield b"".join(records)
        finally:
            for tile in wanted:
                self._leave(tile, viewer)

    def _join(self, tile: Tile, viewer: _Viewer) -> None:
        source = self._sources.get(tile)
        if source is None:
            source = self._sources[tile] = _Source()
            self._jobs.start(self._follow(tile, source))
        source.viewers.add(viewer)
        if source.record:
            viewer.put(tile, source.record)

    def _leave(self, tile: Tile, viewer: _Viewer) -> None:
        source = self._sources.get(tile)
        if source is None:
            return
        source.viewers.discard(viewer)
        if not source.viewers:
            del self._sources[tile]
            if source.asking is not None:
                source.asking.cancel()

    async def _follow(self, tile: Tile, source: _Source) -> None:
        """Subscribe to a stream's previews and request them, until nobody looks any more."""
        source.asking = asyncio.current_task()
        assembler, clock = Assembler(), asyncio.get_running_loop().time

        async def on_preview(message: Message) -> None:
            try:
                data = assembler.take(message.data, clock())
                if data is not None:
                    self._take(tile, source, codec.decode(FramePreview, data))
            except MessageError as error:
                log.warning("message on %s ignored: %s", message.subject, error)

        group, stream = tile
        wanted = codec.encode(PreviewWanted(stream=stream, fps=FPS, width=WIDTH, quality=QUALITY))
        subscription: Subscription | None = None
        try:
            while source.viewers:
                try:
                    if subscription is None:
                        subscription = await self._bus.subscribe(subjects.preview(group, stream), on_preview, limit=64)
                    await self._bus.publish(subjects.preview_wanted(group), wanted)
                except HamsError as error:
                    log.info("no pictures of %s/%s: %s", group, stream, error)
                await asyncio.sleep(REQUEST_LEASE_S / 3)
        finally:
            if subscription is not None:
                await subscription.unsubscribe()

    def _take(self, tile: Tile, source: _Source, preview: FramePreview) -> None:
        self._costs.made(preview.cpu_ms)
        source.record = record(tile, preview)
        for viewer in source.viewers:
            viewer.put(tile, source.record)


def record(tile: Tile, preview: FramePreview) -> bytes:
    """Return a preview as viewers get it: two lengths (u32, big endian), JSON of the result, JPEG."""
    head = msgspec.json.encode(_shown(tile, preview.frame, codec.unpack(preview.result)))
    return struct.pack(">II", len(head), len(preview.jpeg)) + head + preview.jpeg


def _shown(tile: Tile, frame: int, result: dict[str, Any]) -> dict[str, Any]:
    """Return what the page draws of a result."""
    group, stream = tile
    head = {key: result.get(key) for key in ("epoch", "captured", "latency_ms", "width", "height")}
    return {"group": group, "stream": stream, "frame": frame, **head, "objects": _brief(result.get("objects", []))}


LONGEST = 32
"""Longer lists (embeddings, dense landmarks, heat maps) are not sent."""


def _brief(value: Any) -> Any:
    """Return a part of a result without lists and masks, which the page does not draw."""
    if isinstance(value, dict):
        return {key: _brief(one) for key, one in value.items() if not _long(key, one)}
    return [_brief(one) for one in value] if isinstance(value, list) else value


def _long(key: str, value: Any) -> bool:
    return (
        key == "mask"
        or isinstance(value, bytes)
        or (isinstance(value, list) and len(value) > LONGEST and key != "objects")
    )
