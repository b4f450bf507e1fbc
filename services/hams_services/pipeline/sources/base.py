"""What a source is, the thread that reads it, and images in memory."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its warnings would mix with our output
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")  # nothing lost or late; passes firewalls
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")  # s without a frame from a camera

import cv2
import imagesize
import numpy as np

from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

with suppress(AttributeError):  # where OpenCV was imported before
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

log = logging.getLogger("hams.pipeline")

T = TypeVar("T")

STOP_S = 2.0
"""How long a source may take to be closed; then its thread is left behind."""
MAX_PIXELS = 1 << 26
"""Most pixels of a frame: 8192×8192, 201 MB as B, G, R. More is refused before it is decoded."""


class Source(Protocol):
    """An opened source. Blocking; all its calls come from one thread, that of its :class:`Reader`."""

    fps: float | None
    """Its own frames/s, or None when it has no clock."""
    endless: bool
    """Whether it sends frames at its own pace, as a camera does; one that ends is lost and opened again."""
    at: float | None = None
    """Presentation time of the newest frame, s of the source's own clock; None where it has none."""
    note: str = ""
    """A defect that does not end the source; `status` shows it, and it is logged."""

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Return the next frame, H×W×3 B, G, R; None at the end. It may be `into`, filled, when the shape is the same.

        Raises:
            SourceError: it is damaged here, or lost; all frames before were returned.
        """
        ...

    def rewind(self) -> None:
        """Start over."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class Reader:
    """Opens, reads and closes one source in a daemon thread of its own; its calls are made one at a time.

    A read that hangs then delays neither another stream nor the end of the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._source: Source | None = None
        self._stopped = False
        threading.Thread(target=self._work, name=f"source {name}", daemon=True).start()

    async def open(self, opener: Callable[[], Source]) -> Source:
        """Open a source, closing the one before; return it, of which only constants may be read. Raises
        the errors of `opener`."""

        def job() -> Source:
            self._close()
            self._source = opener()
            return self._source

        return await self._call(job)

    async def read(self, into: Pixels | None = None) -> Pixels | None:
        """Return the next frame; see :class:`Source`."""
        return await self._call(lambda: self._opened().read(into))

    async def rewind(self) -> None:
        """Start over; see :class:`Source`."""
        await self._call(lambda: self._opened().rewind())

    async def close(self) -> None:
        """Close the source; another may be opened."""
        await self._call(self._close)

    async def stop(self) -> None:
        """Close the source and end the thread; after `STOP_S` the thread is left to end once its call returns."""
        if self._stopped:
            return
        self._stopped = True
        self._jobs.put(None)
        try:
            async with asyncio.timeout(STOP_S):
                await self._ended.wait()
        except TimeoutError:
            log.warning("the source of stream %s hangs: its thread is left behind", self._name)

    async def _call(self, job: Callable[[], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return await future

    # ── in the thread ─────────────────────────────────────────────────────────────────────────────────────────

    def _opened(self) -> Source:
        assert self._source is not None, "read before open"
        return self._source

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            if future.cancelled():
                continue
            try:
                result = call()
            except Exception as error:
                self._report(_fail, future, error)
            else:
                self._report(_succeed, future, result)
                del result  # frames are given back while we wait for the next job
        try:
            self._close()
        except Exception:
            log.exception("the source of stream %s could not be closed", self._name)
        self._report(self._ended.set)

    def _report(self, what: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *args)


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def check_capture(capture: cv2.VideoCapture, origin: str) -> None:
    """Raise SourceError, and close the video, when its frames are too large."""
    try:
        width, height = (capture.get(prop) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_size(int(width), int(height), origin)
    except SourceError:
        capture.release()
        raise


def grab(capture: cv2.VideoCapture, into: Pixels | None) -> Pixels | None:
    """Return the next frame of `capture`, in `into` if its shape fits; None at the end."""
    good, image = capture.read(into)
    if not good or image is None:
        return None
    if into is not None and image.shape == into.shape and np.may_share_memory(image, into):
        return into
    return np.asarray(image, np.uint8)


def check_size(width: int, height: int, origin: str) -> None:
    """Raise SourceError when a frame has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"{origin} has {width}×{height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million allowed",
            "send it smaller, or in tiles",
        )


def image_size(data: bytes, origin: str = "image") -> tuple[int, int]:
    """Return width and height of an encoded image, from its header. Raises SourceError: no image, or too large."""
    try:
        width, height = imagesize.get(io.BytesIO(data)) if data else (0, 0)
    except Exception:  # a malformed header may raise anything
        width, height = 0, 0
    if width <= 0 or height <= 0:
        raise _no_image(origin)
    check_size(int(width), int(height), origin)
    return int(width), int(height)


def decode_image(data: bytes, origin: str = "image") -> Pixels:
    """Decode JPEG, PNG, … to H×W×3 B, G, R, upright as its EXIF data says. Raises SourceError."""
    image_size(data, origin)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise _no_image(origin)
    return np.asarray(image, np.uint8)


def _no_image(origin: str) -> SourceError:
    return SourceError(f"{origin} is not an image that can be decoded", "JPEG, PNG, BMP, WebP and TIFF can")


def size_of(data: bytes, shape: tuple[int, int, int] | None) -> tuple[int, int]:
    """Return width and height of an application's image, before it is decoded. Raises SourceError."""
    if shape is None:
        return image_size(data)
    height, width, channels = shape
    if channels != 3 or min(height, width) <= 0 or len(data) != height * width * 3:
        raise SourceError(f"{len(data)} bytes are not an image of {'×'.join(map(str, shape))}", "send height×width×3")
    check_size(width, height, "image")
    return width, height


def as_frame(data: bytes, shape: tuple[int, int, int] | None) -> Pixels:
    """Return an application's image: an encoded one, or raw bytes of `shape`. Raises SourceError."""
    if shape is None:
        return decode_image(data)
    size_of(data, shape)
    return np.frombuffer(data, np.uint8).reshape(shape)
