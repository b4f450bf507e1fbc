"""Files: a video, images."""

from __future__ import annotations

from pathlib import Path

import cv2

from hams_services.pipeline.sources.base import Source, check_capture, decode_image, grab
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

MAX_FILE = 1 << 28
"""Largest image file, bytes: that of the largest message of an application."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Video(Source):
    """A video file."""

    endless = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(f"{path} is not a video that can be read", "is the file complete?")
        check_capture(self._capture, str(path))
        self._count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read = 0
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= 1000 else None

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`. One frame fewer than announced is normal, more are damage."""
        image = grab(self._capture, into)
        if image is not None:
            self._read += 1
            return image
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


class Images(Source):
    """One image, or the images of a folder in name order."""

    endless = False
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
        if path.stat().st_size > MAX_FILE:
            raise SourceError(
                f"{path} has {path.stat().st_size >> 20} MiB, more than the {MAX_FILE >> 20} that are taken"
            )
        return decode_image(path.read_bytes(), str(path))

    def rewind(self) -> None:
        """Start over."""
        self._next = 0

    def close(self) -> None:
        """Nothing is held open."""


def is_image(path: Path) -> bool:
    """Say whether the name is that of an image file."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_of(folder: Path) -> list[Path]:
    """Return the images in `folder`, in name order. Raises SourceError when there are none."""
    images = sorted(path for path in folder.iterdir() if is_image(path))
    if not images:
        raise SourceError(f"{folder} holds no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images
