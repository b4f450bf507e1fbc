"""What a source is."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Protocol

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its warnings would break into our output
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")  # nothing lost or late; passes firewalls
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")  # s that a camera may be silent

import cv2
import imagesize
import numpy as np

from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

with suppress(AttributeError):  # where OpenCV was imported before
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

MAX_PIXELS = 1 << 26
"""Most pixels of a frame: 8192×8192, 201 MB as B, G, R. More is refused before it is decoded."""


class Source(Protocol):
    """An opened source. Blocking; all its calls come from one thread (:mod:`.reader`)."""

    fps: float | None
    """Its own frames/s, or None when it has no clock."""
    endless: bool
    """Whether it gives frames as they are made, at their own pace; one that ends is lost and opened again."""
    at: float | None = None
    """When the frame that was read last is to be shown, s of the source's own time; None where it has none."""
    note: str = ""
    """What is odd about it, for people: `status` shows it, and it is logged."""

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


def check_capture(capture: cv2.VideoCapture, origin: str) -> None:
    """Raise SourceError when the frames of an opened video are too large; it is closed then."""
    try:
        width, height = (capture.get(prop) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_size(int(width), int(height), origin)
    except SourceError:
        capture.release()
        raise


def grab(capture: cv2.VideoCapture, into: Pixels | None) -> Pixels | None:
    """Return the next frame of `capture`, in `into` where it fits; None when there is none."""
    good, image = capture.read(into)
    if not good or image is None:
        return None
    if into is not None and image.shape == into.shape and np.may_share_memory(image, into):
        return into
    return np.asarray(image, np.uint8)


def check_size(width: int, height: int, origin: str) -> None:
    """Raise SourceError when a frame of this size would cost too much."""
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"{origin} has {width}×{height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million that are taken",
            "send it smaller, or in tiles",
        )


def image_size(data: bytes, origin: str = "image") -> tuple[int, int]:
    """Return width and height of an encoded image, from its header. Raises SourceError: it is none, or too large."""
    try:
        width, height = imagesize.get(io.BytesIO(data)) if data else (0, 0)
    except Exception:  # whatever a made-up header does to it
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
    """Return width and height of a picture an application sent, before it is decoded. Raises SourceError."""
    if shape is None:
        return image_size(data)
    height, width, channels = shape
    if channels != 3 or min(height, width) <= 0 or len(data) != height * width * 3:
        raise SourceError(f"{len(data)} bytes are not an image of {'×'.join(map(str, shape))}", "send height×width×3")
    check_size(width, height, "image")
    return width, height


def as_frame(data: bytes, shape: tuple[int, int, int] | None) -> Pixels:
    """Return the picture an application sent: an encoded image, or raw bytes of `shape`. Raises SourceError."""
    if shape is None:
        return decode_image(data)
    size_of(data, shape)
    return np.frombuffer(data, np.uint8).reshape(shape)
