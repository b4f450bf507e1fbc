"""Small pictures of a stream with their results, a few a second, while a page asks for them.

They are made beside the delivery of results, one at a time: a stream that is faster than that skips pictures.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import cv2
import numpy as np

from hams_services.pipeline.jpeg import LONGEST, jpeg_of_frame
from hams_shared.bus import chunks
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.runtime.clock import Clock
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import Pixels
from hams_shared.wire.messages.pipeline import REQUEST_LEASE_S, FramePreview, PreviewWanted


class Previews:
    """The requests for previews of one stream, and the frame whose preview is made."""

    def __init__(
        self, bus: Bus, clock: Clock, group: str, stream: str, log: logging.LoggerAdapter[logging.Logger]
    ) -> None:
        self._bus, self._clock, self._log = bus, clock, log
        self._subject, self._stream = subjects.preview(group, stream), stream
        self._until = 0.0
        self._next = 0.0
        self._fps, self._width, self._quality = 1.0, 1, 1
        self._offered: asyncio.Queue[tuple[int, Pixels, bytes]] = asyncio.Queue(1)
        self._busy = False

    def want(self, wanted: PreviewWanted) -> None:
        """Make previews for a while. Of several requests the largest of each figure counts."""
        now = self._clock.now()
        if now >= self._until:
            self._fps, self._width, self._quality = wanted.fps, wanted.width, wanted.quality
        self._fps, self._width = max(self._fps, wanted.fps), max(self._width, wanted.width)
        self._quality = max(self._quality, wanted.quality)
        self._until = now + REQUEST_LEASE_S

    def close(self) -> None:
        """Make no more."""
        self._until, self._busy = 0.0, True

    def wanted(self, now: float) -> bool:
        """Whether anybody asks for previews."""
        return now < self._until

    def due(self, now: float) -> bool:
        """Whether the frame that is delivered now gets a preview; then :meth:`offer` it."""
        if now >= self._until or now < self._next or self._busy:
            return False
        self._next = max(self._next + 1 / self._fps, now)  # the mean rate is kept, whatever the frames' own rate
        return True

    def offer(self, frame: int, pixels: Pixels, result: bytes) -> None:
        """Have a preview made of a frame, which must be kept until :meth:`run` drops it."""
        self._busy = True
        self._offered.put_nowait((frame, pixels, result))

    async def run(self, drop: Callable[[int], None]) -> None:
        """Make and publish what is offered, and `drop` each frame, until cancelled."""
        while True:
            frame, pixels, result = await self._offered.get()
            try:
                jpeg, cpu_s = await asyncio.to_thread(small_jpeg, pixels, self._width, self._quality)
            except Exception:
                self._log.exception("stream %s: no preview of frame %d", self._stream, frame)
                continue
            finally:
                self._busy = self._until == 0.0
                del pixels
                drop(frame)
            preview = FramePreview(stream=self._stream, frame=frame, jpeg=jpeg, result=result, cpu_ms=1e3 * cpu_s)
            try:
                await chunks.publish(self._bus, self._subject, codec.encode(preview))
            except HamsError as error:
                self._log.warning("stream %s: preview lost: %s", self._stream, error)


def small_jpeg(pixels: Pixels, width: int, quality: int) -> tuple[bytes, float]:
    """Return a frame as JPEG, at most `width` pixels wide and :data:`LONGEST` high, and the CPU seconds of this thread
    that it took. Raises MessageError."""
    began = time.thread_time()
    rows, columns = pixels.shape[:2]
    scale = min(width / columns, LONGEST / rows)
    if scale < 1.0:
        size = max(1, round(columns * scale)), max(1, round(rows * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return jpeg_of_frame(pixels, quality), time.thread_time() - began
