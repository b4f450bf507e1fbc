"""How far boxes move from one image to the next, by sparse optical flow on a small luma image. Holds the last image.

Where the detector does not run for half a second, boxes that only go on as before are wrong wherever people turn or
stop. Points with texture are chosen inside each box (Shi and Tomasi, *Good Features to Track*, CVPR 1994), followed by
pyramidal Lucas-Kanade (Bouguet, 2001), and the box moves by their median and scales by the median of the changes of
their distances (median flow: Kalal et al., *Forward-Backward Error*, ICPR 2010).

Few points serve, so the image is small and the time bounded: at most `boxes` × `points` points.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.luma import Luma
from hams_services.pipeline.tracking.boxes import Array, centred

Points = NDArray[np.float32]
Rows = NDArray[np.intp]

NOTHING = np.empty((0, 1, 2), np.float32)
NEAREST = 2.0
"""Points of one box are further apart, pixels of the small image."""


@dataclass(frozen=True)
class FlowSettings:
    """What may be chosen of the flow; lengths are in pixels of the small image.

    Chosen on vtest.avi by the overlap of moved boxes with those detected five frames (0.5 s) later: 0.65 to 0.69 with
    widths of 256 to 512, 6 to 20 points, windows of 9 to 21 (0.28 unmoved), so that the time decides. Points near the
    rim of a box help: without the outer 40 % it was 0.61.
    """

    boxes: int = 32
    """Boxes that are followed, the first of those given."""
    points: int = 8
    """In each box."""
    least: int = 3
    """With fewer points a box is not moved."""
    window: int = 9
    """Side of the square around a point that is found again."""
    levels: int = 2
    """Of the pyramid, beyond the image itself: motion of up to window · 2^levels / 2 is found."""
    steps: int = 8
    """Iterations at each level."""


class Flow:
    """The motion in one stream."""

    def __init__(self, settings: FlowSettings | None = None) -> None:
        self.settings = settings or FlowSettings()
        self._last: Luma | None = None

    def step(self, luma: Luma, boxes: Array, frame_size: tuple[int, int]) -> tuple[Array, NDArray[np.bool_]]:
        """Take the next frame's :func:`small_luma`, H×W; return how far N×4 `boxes` of the last frame have moved.

        `boxes` are x0, y0, x1, y1 in pixels of the frame, `frame_size` is its width and height in pixels. Returns N×4
        changes of cx, cy, w, h in pixels of the frame, and which are known. None is known of the first image, and of
        one whose size differs from the last one's.
        """
        last, self._last = self._last, luma
        moved, known = np.zeros((len(boxes), 4)), np.zeros(len(boxes), np.bool_)
        if last is None or last.shape != luma.shape or not len(boxes):
            return moved, known
        scale = np.array([luma.shape[1] / frame_size[0], luma.shape[0] / frame_size[1]])
        points, owner = self._choose(last, boxes[: self.settings.boxes] * np.tile(scale, 2))
        if not len(points):
            return moved, known
        there, found = self._follow(last, luma, points)
        points, there, owner = points[found], there[found], owner[found]
        shift, growth, count = median_flow(points, there, owner, len(boxes))
        known = count >= self.settings.least
        moved[known, :2] = shift[known] / scale
        moved[known, 2:] = (centred(boxes)[:, 2:] * (growth[:, None] - 1))[known]
        return moved, known

    def _choose(self, luma: Luma, boxes: Array) -> tuple[Points, Rows]:
        """Return K×2 points with texture, and the box that each is in."""
        settings, points = self.settings, []
        centres = centred(boxes)
        half = np.maximum(centres[:, 2:], settings.window) / 2
        starts = np.maximum(np.floor(centres[:, :2] - half), 0).astype(int)
        ends = np.maximum(np.ceil(centres[:, :2] + half), 0).astype(int)
        for (x0, y0), (x1, y1) in zip(starts.tolist(), ends.tolist(), strict=True):
            part = luma[y0:y1, x0:x1]
            chosen = cv2.goodFeaturesToTrack(part, settings.points, 0.05, NEAREST, blockSize=5) if part.size else None
            points.append(NOTHING if chosen is None else chosen)
        owner = np.repeat(np.arange(len(boxes)), [len(chosen) for chosen in points])
        places = (np.concatenate(points)[:, 0] + starts[owner]).astype(np.float32)
        own = owner == front(places, boxes)
        return places[own], owner[own]

    def _follow(self, last: Luma, luma: Luma, points: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Return where K×2 points of the `last` image are in this one, and which were found."""
        settings = self.settings
        there, found, _ = cv2.calcOpticalFlowPyrLK(
            last,
            luma,
            points[:, None],
            None,
            winSize=(settings.window, settings.window),
            maxLevel=settings.levels,
            criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, settings.steps, 0.03),
        )
        there, height, width = there.reshape(-1, 2), *luma.shape
        inside = ((there >= 0) & (there < (width, height))).all(axis=1)
        return there, (found.ravel() == 1) & inside


def front(points: Points, boxes: Array) -> Rows:
    """Return which of N×4 `boxes` each of K×2 points belongs to: of those it is in, the one that ends lowest.

    What stands nearer hides what is behind it, and ends lower in the image of a camera that looks down. A point in no
    box belongs to the first.
    """
    x, y = points[:, :1], points[:, 1:]
    inside = (x >= boxes[:, 0]) & (x <= boxes[:, 2]) & (y >= boxes[:, 1]) & (y <= boxes[:, 3])
    return np.asarray(np.where(inside, boxes[:, 3], -np.inf).argmax(axis=1), np.intp)


def median_flow(points: Points, there: Points, owner: Rows, boxes: int) -> tuple[Array, Array, Rows]:
    """Return how N `boxes` move when their points move from K×2 `points` (x, y) to `there`.

    `owner` is the box of each point, ascending. Returns N×2 median shifts, N median factors by which points went away
    from each other (of their distances from the median point), and N numbers of points. Without points a box rests.
    """
    count = np.bincount(owner, minlength=boxes)
    slot = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
    steps = there.astype(np.float64) - points
    shift = np.stack([_medians(steps[:, axis], owner, slot, count) for axis in (0, 1)], axis=1)
    middle = np.stack([_medians(points[:, axis], owner, slot, count) for axis in (0, 1)], axis=1)
    before = np.linalg.norm(points - middle[owner], axis=1)
    after = np.linalg.norm(there - (middle + shift)[owner], axis=1)
    ratio = np.where(before >= NEAREST, after / np.maximum(before, NEAREST), 1.0)
    return shift, np.where(count > 0, _medians(ratio, owner, slot, count), 1.0), count


def _medians(values: NDArray[np.floating], owner: Rows, slot: Rows, count: Rows) -> Array:
    """Return the median of the `values` of each owner, 0 where there is none; `slot` counts them from 0."""
    table = np.full((len(count), max(int(count.max(initial=1)), 1)), np.inf)
    table[owner, slot] = values
    table.sort(axis=1)
    rows = np.arange(len(count))
    middle = table[rows, np.maximum(count - 1, 0) // 2] + table[rows, np.minimum(count // 2, table.shape[1] - 1)]
    return np.where(count > 0, middle / 2, 0.0)
