"""Boxes as arrays: corners (x0, y0, x1, y1), centres (cx, cy, w, h), overlaps; all in pixels. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST = 1.0
"""A box has no shorter side, pixels."""
LARGEST = 1e6
"""No coordinate is larger, pixels: what is beyond is no box of an image."""


LEAST = np.array([-np.inf, -np.inf, SMALLEST, SMALLEST])
TO_CENTRES = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
TO_CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])


def centred(boxes: Array) -> Array:
    """Return N×4 (cx, cy, w, h) of N×4 (x0, y0, x1, y1)."""
    return np.asarray(boxes @ TO_CENTRES)


def corners(centres: Array) -> Array:
    """Return N×4 (x0, y0, x1, y1) of N×4 (cx, cy, w, h); sides are at least SMALLEST."""
    return np.asarray(np.maximum(centres, LEAST) @ TO_CORNERS)


def iou(one: Array, other: Array) -> Array:
    """Return the N×M intersections over unions of N×4 and M×4 boxes (x0, y0, x1, y1) with positive areas."""
    left, top, right, bottom = one.T[:, :, None]
    x0, y0, x1, y1 = other.T
    wide = np.minimum(right, x1) - np.maximum(left, x0)
    high = np.minimum(bottom, y1) - np.maximum(top, y0)
    both: Array = np.maximum(wide, 0) * np.maximum(high, 0)
    both /= (right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - both
    return both


def usable(boxes: Array) -> NDArray[np.bool_]:
    """Return which of N×4 boxes (x0, y0, x1, y1) are finite, within LARGEST, and have sides of at least SMALLEST."""
    within = (np.abs(boxes) <= LARGEST).all(axis=1)  # false for what is not a number
    wide = (boxes[:, 2:] >= boxes[:, :2] + SMALLEST).all(axis=1)
    return np.asarray(within & wide)
