"""Cameras at this host (USB, CSI): Video for Linux."""

from __future__ import annotations

import os

import cv2

from hams_services.pipeline.sources.base import Source, grab
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels


class Camera(Source):
    """``camera:0`` (the first) or ``camera:/dev/video2``."""

    endless = True

    def __init__(self, name: str) -> None:
        self._name = f"camera {name}"
        path = f"/dev/video{name}" if name.isdecimal() else name
        if not os.path.exists(path):
            raise SourceError(f"{self._name} cannot be opened: there is no {path}", "is it plugged in?")
        if not os.access(path, os.R_OK | os.W_OK):
            raise SourceError(f"{self._name} cannot be opened: no permission", f"see `ls -l {path}`: its group")
        self._capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self._name} cannot be opened", "is it a camera, and does no other program use it?")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= 1000 else None

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        image = grab(self._capture, into)
        if image is None:
            raise SourceError(f"{self._name} sends no more frames", "was it unplugged?")
        return image

    def rewind(self) -> None:
        """It has no beginning."""

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()
