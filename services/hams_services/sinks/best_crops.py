"""The best crop of each track in some frames: where the detector found it largest and with most certainty."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from hams_client import Object
from hams_services.sinks.trails import track_of
from hams_shared.wire.frames import Pixels

TRACKS = 256
"""Further tracks have no crop."""
BETTER = 1.1
"""A crop replaces another one when it is better by this factor."""


class BestCrops:
    """JPEG by track; a crop is better by area times score, predicted boxes do not count."""

    def __init__(self) -> None:
        self._best: dict[int, tuple[float, bytes]] = {}

    def add(self, objects: Iterable[Object], image: Pixels) -> None:
        """Look at the objects of one frame, height×width×3."""
        height, width = image.shape[:2]
        for one in objects:
            track = track_of(one)
            if track is None or one.get("predicted") or (track not in self._best and len(self._best) >= TRACKS):
                continue
            x0, y0, x1, y1 = np.rint(one.box).astype(int).clip(0, (width, height, width, height)).tolist()
            quality = (x1 - x0) * (y1 - y0) * one.score
            if x1 > x0 and y1 > y0 and quality > BETTER * self._best.get(track, (0.0, b""))[0]:
                self._best[track] = quality, cv2.imencode(".jpg", image[y0:y1, x0:x1])[1].tobytes()

    def of(self, track: int) -> bytes | None:
        """Return the crop of a track, if there is one."""
        found = self._best.get(track)
        return None if found is None else found[1]
