"""Trails: where the tracks of one stream were in the last seconds. Pure and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAIL_S = 4.0
"""Older points are forgotten, s."""
POINTS = 20
"""Of a trail, at most."""
APART_S = TRAIL_S / POINTS - 1e-6
"""Between two of them at least, but for the newest one, s."""
TRACKS = 256
"""Tracks at a time; of more, those not seen for longest have no trail."""
SMOOTHINGS = 2
"""How often each point of a trail is averaged with its neighbours."""
FARTHEST = 1 << 20
"""Pixels: boxes beyond are not drawn either."""


class Trail(NamedTuple):
    """The last foot points (middle of the box's lower side) of one track, the oldest first."""

    track: int
    points: NDArray[np.float64]
    """K×2, pixels of the frame."""
    ages: NDArray[np.float64]
    """K, s before the newest frame."""


class Trails:
    """The trails of one stream."""

    def __init__(self) -> None:
        self._points: dict[int, deque[tuple[float, float, float]]] = {}
        """By track, the one seen last at the end: time in s, x, y."""
        self._newest = (-1, 0.0)

    def add(self, frame: int, t: float, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take the objects of frame number `frame` at time `t`, s. A stream that starts over has no trails yet."""
        if frame < self._newest[0] or t < self._newest[1]:
            self._points.clear()
        self._newest = frame, t
        for one in objects:
            track, foot = track_of(one), _foot(one.get("box"))
            if track is not None and foot is not None:
                self._extend(track, t, *foot)
        for track in [track for track, points in self._points.items() if points[-1][0] < t - TRAIL_S]:
            del self._points[track]
        while len(self._points) > TRACKS:
            del self._points[next(iter(self._points))]

    def _extend(self, track: int, t: float, x: float, y: float) -> None:
        points = self._points.pop(track, None) or deque(maxlen=POINTS + 2)
        self._points[track] = points
        if len(points) > 1 and points[-1][0] - points[-2][0] < APART_S:
            points.pop()  # the newest one is always there, and the others are not too dense
        points.append((t, x, y))

    def trails(self) -> list[Trail]:
        """Return the trails that have a length."""
        found, t = [], self._newest[1]
        for track, points in self._points.items():
            kept = np.array([point for point in points if t - point[0] <= TRAIL_S], np.float64)
            if len(kept) > 1:
                found.append(Trail(track, _smooth(kept[:, 1:]), t - kept[:, 0]))
        return found


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return K×2 points without the jumps of boxes, about half a second long; the ends stay."""
    smooth = points.copy()
    for _ in range(SMOOTHINGS):
        smooth[1:-1] = (smooth[:-2] + 2 * smooth[1:-1] + smooth[2:]) / 4
    return smooth


def _foot(box: Any) -> tuple[float, float] | None:
    """Return the middle of a box's lower side; None unless it is four numbers of pixels."""
    if not (isinstance(box, list | tuple) and len(box) == 4):
        return None
    if not all(isinstance(value, int | float) and abs(value) < FARTHEST for value in box):
        return None
    return (box[0] + box[2]) / 2, box[3]


def track_of(one: Mapping[str, Any]) -> int | None:
    """Return the id of an object's track, if it has one."""
    track = one.get("track")
    return track if isinstance(track, int) and not isinstance(track, bool) else None
