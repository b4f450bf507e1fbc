"""The best view of each open track of a stream, kept small, for events that carry a crop. Pure.

A view is better when its :func:`tracking.quality.quality` is `BETTER` times that of the one before, the score by which
a child looks at a track again. The grey image that the score's sharpness is measured in is made only for objects that
would be better if they were sharp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from hams_services.pipeline.luma import Luma, small_luma
from hams_services.pipeline.tracking.quality import quality
from hams_shared.wire.frames import Pixels

BETTER = 1.5
SIDE = 256
"""Longest side of a view, pixels: a track's takes 192 KiB at most."""
MAX_BYTES = 32 * 1024
"""Largest JPEG."""
QUALITIES = (85, 70, 50, 30)


@dataclass(slots=True)
class View:
    """How a track was seen best."""

    quality: float
    pixels: Pixels
    """H×W×3, at most SIDE×SIDE."""
    jpeg: bytes | None = None
    """The same, once it was needed."""


class BestViews:
    """By track. `limit` bounds the tracks; `labels` are those of tracks that matter, empty: all."""

    def __init__(self, limit: int, labels: frozenset[str] = frozenset()) -> None:
        self.limit = limit
        self.labels = labels
        self._views: dict[int, View] = {}

    def __len__(self) -> int:
        return len(self._views)

    def see(self, objects: Iterable[Mapping[str, Any]], image: Pixels, luma: Luma | None = None) -> None:
        """Look at the objects of one frame, H×W×3; `luma` is its small grey image, where there is one already."""
        height, width = image.shape[:2]
        for one in objects:
            track = one.get("track")
            if track is None or one.get("predicted") or (self.labels and one["label"] not in self.labels):
                continue
            known = self._views.get(track)
            if known is None and len(self._views) >= self.limit:
                continue
            least = 0.0 if known is None else BETTER * known.quality
            if quality(one, None, (width, height)) <= least:  # sharpness only lowers it
                continue
            luma = small_luma(image) if luma is None else luma
            shows = quality(one, luma, (width, height))
            if shows > least and (cut := _cut(one["box"], image)) is not None:
                self._views[track] = View(shows, cut)

    def of(self, tracks: Iterable[int]) -> dict[int, View]:
        """Return the views of `tracks`, of those that have one."""
        return {track: self._views[track] for track in tracks if track in self._views}

    def keep(self, still_open: Callable[[int], bool]) -> None:
        """Forget the tracks that have ended."""
        for track in [track for track in self._views if not still_open(track)]:
            del self._views[track]


def _cut(box: Sequence[float], image: Pixels) -> Pixels | None:
    """Return a copy of the box's pixels in the frame, reduced to SIDE; None: it is less than a pixel."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = np.rint(box).astype(int).clip(0, (width, height, width, height)).tolist()
    if x1 <= x0 or y1 <= y0:
        return None
    part = image[y0:y1, x0:x1]
    scale = SIDE / max(x1 - x0, y1 - y0)
    if scale >= 1.0:
        return part.copy()
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def encode(views: Iterable[View]) -> None:
    """Make the JPEG of each view that has none. It takes some 0.5 ms each: for a thread."""
    for view in views:
        if view.jpeg is None:
            view.jpeg = jpeg_of(view.pixels)


def jpeg_of(pixels: Pixels) -> bytes:
    """Return a JPEG of H×W×3 pixels, of MAX_BYTES at most: of less quality where more does not fit, then smaller."""
    while True:
        for level in QUALITIES:
            data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, level])[1].tobytes()
            if len(data) <= MAX_BYTES:
                return data
        height, width = pixels.shape[:2]
        half = max(1, width // 2), max(1, height // 2)
        pixels = np.asarray(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA), np.uint8)
