"""A video file."""

from __future__ import annotations

from pathlib import Path

import cv2

from hams_services.pipeline.sources.base import grab, rate
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels


class Video:
    """A video file."""

    live = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = self._open()
        self._count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read = 0
        self.fps = rate(self._capture)

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SourceError(f"{self._path} is not a video that can be read", "is the file complete?")
        return capture

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
        self._capture = self._open()
        self._read = 0

    def close(self) -> None:
        """Release the file."""
        self._capture.release()
