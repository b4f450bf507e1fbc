"""What a source is."""

from __future__ import annotations

import os
from typing import Protocol

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its warnings would break into our output

import cv2
import numpy as np

from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

MAX_SIDE = 1 << 14
"""Longest side of a frame, pixels."""


class Source(Protocol):
    """An opened source."""

    fps: float | None
    """Its own frames/s, or None when it has no clock."""
    endless: bool
    """Whether it gives frames as they are made, at their own pace; one that ends is lost and opened again."""

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


def decode_image(data: bytes, origin: str = "image") -> Pixels:
    """Decode JPEG, PNG, … to H×W×3 B, G, R, upright as its EXIF data says. Raises SourceError."""
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        raise SourceError(f"{origin} is not an image that can be decoded", "JPEG, PNG, BMP, WebP and TIFF can")
    return np.asarray(image, np.uint8)


def as_frame(data: bytes, shape: tuple[int, int, int] | None) -> Pixels:
    """Return the picture an application sent: an encoded image, or raw bytes of `shape`. Raises SourceError."""
    if shape is None:
        return decode_image(data)
    if shape[2] != 3 or not all(0 < side <= MAX_SIDE for side in shape[:2]) or len(data) != shape[0] * shape[1] * 3:
        raise SourceError(f"{len(data)} bytes are not an image of {'×'.join(map(str, shape))}", "send height×width×3")
    return np.frombuffer(data, np.uint8).reshape(shape)
