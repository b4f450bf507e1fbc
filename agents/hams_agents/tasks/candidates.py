"""From a detector's candidates to the objects it found: what all detectors of one class do last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected
from hams_agents.tasks.geometry import apply, boxes_through
from hams_agents.tasks.nms import keep_best


@dataclass(frozen=True)
class Choice:
    """Which candidates are objects."""

    label: str
    iou: float
    min_size: float
    """Least side of a box, pixels of the input."""
    max_objects: int


def choose(
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    choice: Choice,
    size: NDArray[np.float64],
    to_frame: Affine,
    frame_size: tuple[int, int] | None,
) -> list[Detected]:
    """Return the objects among K candidates of one image, in frame pixels, best score first.

    `boxes` (K×4: x0, y0, x1, y1) and `points` (K×P×2) are pixels of the input, whose width and height are `size`.
    Boxes are clipped to it and to the frame; those that are empty then, or not finite, are left out, and so is the
    lower score of two that overlap.
    """
    clipped = boxes.clip(0, np.tile(size, 2))
    sides = clipped[:, 2:] - clipped[:, :2]
    finite = np.isfinite(clipped).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
    good = finite & (sides > 0).all(axis=1) & (sides >= choice.min_size).all(axis=1)
    clipped, points, scores = clipped[good], points[good], scores[good]
    kept = keep_best(clipped, scores, choice.iou)[: choice.max_objects]
    found = boxes_through(to_frame, clipped[kept])
    if frame_size is not None:
        found = found.clip(0, np.tile(frame_size, 2))
    points, scores = apply(to_frame, points[kept]), scores[kept]
    return [
        Detected(
            (box[0], box[1], box[2], box[3]), float(scores[i]), choice.label, points[i] if points.shape[1] else None
        )
        for i, box in enumerate(found.tolist())
        if box[2] > box[0] and box[3] > box[1]
    ]


def best(scores: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return the indices of the `most` best scores, the best first; earlier ones when equal."""
    return np.argsort(-scores, kind="stable")[:most]
