"""Where frames come from: a video file, one image, or a folder of images. Blocking; called from a stream's thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its warnings would break into our output

import cv2
import numpy as np

from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Source(Protocol):
    """An opened source."""

    @property
    def fps(self) -> float | None:
        """Its own frames/s, or None when it has no clock."""
        ...

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Return the next frame, H×W×3 B, G, R; None at the end. It may be `into`, filled, when the shape is the same.

        Raises:
            SourceError: it is damaged here; all frames before were returned.
        """
        ...

    def rewind(self) -> None:
        """Start over."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Video:
    """A video file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(f"{path} is not a video that can be read", "is the file complete?")
        self._count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read = 0
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps: float | None = rate if 0 < rate <= 1000 else None

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`. One frame fewer than announced is normal, more are damage."""
        good, image = self._capture.read(into)
        if good and image is not None:
            self._read += 1
            if into is not None and image.shape == into.shape and np.may_share_memory(image, into):
                return into
            return np.asarray(image, np.uint8)
        if self._read == 0:
            raise SourceError(f"{self._path} holds no frame that can be decoded")
        if self._read < self._count - max(1, self._count // 50):
            raise SourceError(
                f"{self._path} is truncated or corrupt: it ends after {self._read} of {self._count} frames"
            )
        return None

    def rewind(self) -> None:
        """Open the file again: seeking is not exact in all formats."""
        self._capture.release()
        self._capture = cv2.VideoCapture(str(self._path))
        self._read = 0

    def close(self) -> None:
        """Release the file."""
        self._capture.release()


class Images:
    """One image, or the images of a folder in name order."""

    fps: float | None = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._next = 0

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next image; see :class:`Source`."""
        if self._next >= len(self._paths):
            return None
        path = self._paths[self._next]
        self._next += 1
        return decode_image(path.read_bytes(), str(path))

    def rewind(self) -> None:
        """Start over."""
        self._next = 0

    def close(self) -> None:
        """Nothing is held open."""


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


def open_source(path: Path) -> Source:
    """Open a file or folder. Raises SourceError that says what is wrong with it."""
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise SourceError(f"{path} holds no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        return Images(images)
    if not path.exists():
        raise SourceError(f"{path} does not exist on the pipeline's host")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Images([path])
    return Video(path)
