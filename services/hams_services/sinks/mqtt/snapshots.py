"""A picture of what happened: of the first frame after an event, with the results drawn in, as a small JPEG.

The pipeline makes pictures only while they are requested, and for some seconds more. So a stream has one every EACH_S
at most, and none while nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress

import cv2
import numpy as np

from hams_client import Event, Hams, Result
from hams_services.sinks.mqtt.core import BridgeCore
from hams_services.sinks.painter import Painter
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.group.regions import Regions
from hams_shared.wire.frames import Pixels

log = logging.getLogger("hams.sinks")

EACH_S = 10.0
"""Least time between two pictures of a stream, s."""
WITHIN_S = 5.0
"""A frame must come within so long, s."""
FRESH_S = 30.0
"""No picture is taken of older events: those that are read after a pause, s."""
SIZE = 640
"""Longest side of a picture, pixels."""
BYTES = 128 * 1024
"""Most bytes of a picture."""
QUALITIES = (80, 60, 40, 20)
TICK_S = 1.0
STREAMS = 256
"""Streams that may wait for a picture."""


class Snapshots:
    """Takes pictures one after another, and gives them to the core."""

    def __init__(self, bus: Bus, core: BridgeCore) -> None:
        self._bus, self._core = bus, core
        self._asked: dict[tuple[str, str], float] = {}
        """By stream: until when a picture is of use."""
        self._taken: dict[tuple[str, str], float] = {}
        self._news = asyncio.Event()

    def ask(self, event: Event) -> None:
        """Have a picture taken of an event's stream, if there was none lately."""
        key, now = (event.group, event.stream), asyncio.get_running_loop().time()
        if time.time() - event.captured > FRESH_S:
            return
        if now - self._taken.get(key, float("-inf")) >= EACH_S and len(self._asked) < STREAMS:
            self._asked[key] = now + FRESH_S
            self._news.set()

    async def run(self, taken: Callable[[], None]) -> None:
        """Take pictures without an end; `taken` is called after each."""
        clock = asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            self._news.clear()
            while self._asked:
                key = next(iter(self._asked))
                until = self._asked.pop(key)
                self._taken = {one: at for one, at in self._taken.items() if clock() - at < EACH_S} | {key: clock()}
                if clock() < until and (jpeg := await self._take(*key)) is not None:
                    self._core.picture(*key, jpeg)
                    taken()

    async def _take(self, group: str, stream: str) -> bytes | None:
        try:
            async with asyncio.timeout(WITHIN_S), aclosing(Hams(self._bus).pictures(group, stream)) as found:
                async for result, image in found:
                    return await asyncio.to_thread(snapshot, result, image, self._core.regions(group))
        except TimeoutError:
            log.info("no picture of %s/%s within %g s", group, stream, WITHIN_S)
        except HamsError as error:
            log.info("no picture of %s/%s: %s", group, stream, error)
        except Exception:  # a task of one's own may output what cannot be drawn; the bridge goes on
            log.exception("no picture of %s/%s", group, stream)
        return None


def snapshot(result: Result, image: Pixels, regions: Mapping[str, Regions]) -> bytes | None:
    """Return a frame with its result drawn in, as JPEG of SIZE pixels and BYTES at most; None: it does not fit."""
    drawn = Painter(regions).paint(result, image)
    scale = min(1.0, SIZE / max(drawn.shape[:2]))
    small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else drawn
    for quality in QUALITIES:
        jpeg = cv2.imencode(".jpg", np.asarray(small, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(jpeg) <= BYTES:
            return bytes(jpeg)
    return None
