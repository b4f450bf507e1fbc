"""A camera of this host, by Video4Linux: ``camera:0``, ``camera:/dev/video2?width=1280&height=720&fps=30``."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl

import cv2

from hams_services.pipeline.sources.base import grab, rate
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

SETTINGS = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT, "fps": cv2.CAP_PROP_FPS}


def device_path(source: str) -> Path:
    """Return the device file that `source` names."""
    name = source.removeprefix("camera:").split("?", 1)[0]
    return Path(f"/dev/video{name}" if name.isdigit() else name)


class Camera:
    """An opened camera."""

    live = True

    def __init__(self, source: str) -> None:
        self._path = device_path(source)
        if not self._path.exists():
            raise SourceError(f"there is no {self._path}: is the camera plugged in?")
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise SourceError(f"{self._path} may not be read by this user", "add the user to the group `video`")
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self._path} cannot be opened as a camera: in use by another program, or no camera")
        wanted = self._wanted(source)
        if wanted:  # raw pictures of that size would not fit through USB 2
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        for setting, value in wanted:
            self._capture.set(setting, value)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)  # an old frame is worth nothing
        self.fps = rate(self._capture)

    @staticmethod
    def _wanted(source: str) -> list[tuple[int, float]]:
        given = parse_qsl(source.partition("?")[2])
        try:
            return [(SETTINGS[key], float(value)) for key, value in given]
        except (KeyError, ValueError):
            raise SourceError(f"{source}: a camera takes {', '.join(SETTINGS)}, each a number") from None

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        image = grab(self._capture, into)
        if image is None:
            raise SourceError(f"{self._path} gives no more frames: was it unplugged?")
        return image

    def rewind(self) -> None:
        """A live source has no beginning."""
        raise SourceError(f"{self._path}: a live source cannot start over")

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()
