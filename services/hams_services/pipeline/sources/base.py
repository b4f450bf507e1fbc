"""What every source of frames can do, and how OpenCV is set up for all of them."""

from __future__ import annotations

import os
from typing import Protocol

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its warnings would break into our output
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")  # s a camera may be silent

import cv2
import numpy as np

from hams_shared.frames import Pixels

OPEN_S = 5.0
"""How long a live source may take to be opened, s."""
READ_S = 5.0
"""How long a live source may be silent before it counts as lost, s."""


class Source(Protocol):
    """An opened source. Blocking; all calls come from one thread."""

    live: bool
    """It has a clock of its own, and is opened again when it is lost."""

    fps: float | None
    """Its own frames/s; None when it has no clock or does not tell."""

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Return the next frame, H×W×3 B, G, R; None at the end. It may be `into`, filled, when the shape is the same.

        Raises:
            SourceError: it is damaged here or lost; all frames before were returned.
        """
        ...

    def rewind(self) -> None:
        """Start over; only of a source that is not live."""
        ...

    def close(self) -> None:
        """Release the file, device or connection."""
        ...


def grab(capture: cv2.VideoCapture, into: Pixels | None) -> Pixels | None:
    """Return the next frame of `capture`, in `into` where it fits; None when there is none."""
    good, image = capture.read(into)
    if not good or image is None:
        return None
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if into is not None and image.shape == into.shape and np.may_share_memory(image, into):
        return into
    return np.asarray(image, np.uint8)


def rate(capture: cv2.VideoCapture) -> float | None:
    """Return the frames/s that `capture` announces, or None when they cannot be."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0 < fps <= 1000 else None
