"""Boxes that are turned: their corners, and which of overlapping ones stay.

Overlap is the probabilistic IoU of Llerena et al., *Gaussian Bounding Boxes and Probabilistic Intersection-over-Union*,
2021 (https://arxiv.org/abs/2106.06072): each box is a normal distribution with its variances, and the overlap one
minus the Hellinger distance of two. It is what Ultralytics compares with `iou`; unlike there, a box that has gone
removes no others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TINY = 1e-7


def corners(boxes: Array) -> Array:
    """Return K×4×2 corners of K×5 boxes (centre x, y, width, height, angle clockwise in radians).

    They go clockwise from the one that is top left when the box is not turned.
    """
    across = np.stack((np.cos(boxes[:, 4]), np.sin(boxes[:, 4])), axis=1) * boxes[:, 2:3] / 2
    down = np.stack((-np.sin(boxes[:, 4]), np.cos(boxes[:, 4])), axis=1) * boxes[:, 3:4] / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.stack([boxes[:, :2] + x * across + y * down for x, y in signs], axis=1)


def upright(quads: Array) -> tuple[Array, Array]:
    """Return K×4×2 corners clockwise from top left, and K angles of their upper sides, degrees from -90 up to 90.

    Which of two opposite corners is top left, a box does not tell: it is the one whose upper side points to the right.
    """
    first, second = quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 1]
    mirrored = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    quads = np.where(mirrored[:, None, None], quads[:, [1, 0, 3, 2]], quads)
    angles = np.degrees(np.arctan2(*(quads[:, 1] - quads[:, 0]).T[::-1]))
    around = (angles < -90) | (angles >= 90)
    quads = np.where(around[:, None, None], quads[:, [2, 3, 0, 1]], quads)
    return quads, (angles + 90) % 180 - 90


def keep_best(boxes: Array, scores: Array, iou: float, classes: NDArray[np.intp], limit: int) -> NDArray[np.intp]:
    """Return the indices of the K×5 boxes that stay, best score first, `limit` at most.

    Greedy: a box goes when its probabilistic IoU with a better one that stays, and has the same of `classes`, is more
    than `iou`.
    """
    spread = _covariances(boxes)
    order = np.argsort(-scores, kind="stable")
    kept: list[np.intp] = []
    while len(order) and len(kept) < limit:
        first, rest = order[0], order[1:]
        kept.append(first)
        same = classes[rest] == classes[first]
        overlap = probabilistic_iou(boxes[first], boxes[rest], spread[first], spread[rest])
        order = rest[~same | (overlap <= iou)]
    return np.array(kept, np.intp)


def _covariances(boxes: Array) -> Array:
    """Return K×3: variance along x, along y, and covariance of K×5 boxes."""
    wide, high = np.square(boxes[:, 2]) / 12, np.square(boxes[:, 3]) / 12
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return np.stack((wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2, (wide - high) * cos * sin), axis=1)


def probabilistic_iou(one: Array, others: Array, spread: Array, spreads: Array) -> Array:
    """Return the overlaps of a box (5) with K×5 others; `spread` and `spreads` are their covariances."""
    both = spread + spreads
    determinant = both[:, 0] * both[:, 1] - both[:, 2] ** 2 + TINY
    x, y = (others[:, :2] - one[:2]).T
    apart = (both[:, 0] * y**2 + both[:, 1] * x**2) / determinant / 4 - both[:, 2] * x * y / determinant / 2
    areas = np.sqrt(max(_determinant(spread), 0.0) * _determinant(spreads).clip(0))
    distance = apart + 0.5 * np.log(determinant / (4 * areas + TINY) + TINY)
    found: Array = 1 - np.sqrt(1 - np.exp(-distance.clip(TINY, 100)) + TINY)
    return found


def _determinant(spread: Array) -> Array:
    value: Array = spread[..., 0] * spread[..., 1] - spread[..., 2] ** 2
    return value
