"""Images in memory: decoding one, and checking one of an application."""

from __future__ import annotations

import io
import os
from contextlib import suppress

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

import cv2
import imagesize
import numpy as np

from hams_services.pipeline.sources.base import check_size
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

with suppress(AttributeError):  # where OpenCV was imported before
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


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
