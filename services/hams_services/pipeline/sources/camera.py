"""Cameras at this host (USB, CSI): Video for Linux."""

from __future__ import annotations

import cv2
import numpy as np

from hams_services.pipeline.sources.base import Source
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels


class Camera(Source):
    """``camera:0`` (the first) or ``camera:/dev/video2``."""

    endless = True

    def __init__(self, name: str) -> None:
        self._name = f"camera {name}"
        target: int | str = int(name) if name.isdecimal() else name
        self._capture = cv2.VideoCapture(target, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(f"{self._name} cannot be opened", "is it plugged in, free, and may this user read it?")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= 1000 else None

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        good, image = self._capture.read()
        if not good or image is None:
            raise SourceError(f"{self._name} gives no more frames")
        return np.asarray(image, np.uint8)

    def rewind(self) -> None:
        """It has no beginning."""

    def close(self) -> None:
        """Let others use it."""
        self._capture.release()
