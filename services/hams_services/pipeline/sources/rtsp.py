"""Cameras and servers that speak RTSP, by FFmpeg inside OpenCV, over TCP."""

from __future__ import annotations

import cv2
import numpy as np

from hams_services.pipeline.sources.base import Source
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels
from hams_shared.urls import redacted

OPEN_MS = 5000
READ_MS = 5000
"""Without a frame for this long the stream is lost, ms."""


class Rtsp(Source):
    """An RTSP stream."""

    endless = True
    fps: float | None = None

    def __init__(self, url: str) -> None:
        self._name = redacted(url)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            raise SourceError(f"{self._name} cannot be opened", "is the camera on, and are user and password right?")

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        good, image = self._capture.read()
        if not good or image is None:
            raise SourceError(f"{self._name} sends no more frames")
        return np.asarray(image, np.uint8)

    def rewind(self) -> None:
        """It has no beginning."""

    def close(self) -> None:
        """Hang up."""
        self._capture.release()
