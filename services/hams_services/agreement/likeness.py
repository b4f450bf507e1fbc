"""How alike two objects are, 0…1: by their boxes, masks, turned boxes, or key points. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_shared.wire.masks import decode
from hams_shared.wire.quads import are_quads

Object = Mapping[str, Any]
"""``box`` (x0, y0, x1, y1), ``label``, ``score``, perhaps ``points`` …, as a detector node predicts it."""
Measure = Callable[[Sequence[Object], Sequence[Object]], NDArray[np.float64]]
"""Returns the N×M likenesses of N and M objects."""

SEEN = 0.5
"""A key point counts from this visibility on."""
SIGMAS = {
    17: (.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
}  # fmt: skip
"""How exactly people mark COCO's key points, by how many there are (https://cocodataset.org/#keypoints-eval)."""
SIGMA = 0.065
"""Of other key points: the mean of those."""


def iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the N×M intersections over unions of N×4 and M×4 boxes; 0 where both have no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def by_box(reference: Sequence[Object], found: Sequence[Object]) -> NDArray[np.float64]:
    """Intersection over union of boxes."""
    return iou(_boxes(reference), _boxes(found))


class ByMask:
    """Intersection over union of masks; 0 where one has none. Keeps what it has computed of pairs."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[int, int], tuple[Object, Object, float]] = {}
        """By the objects' ids, with the objects, which keeps their ids theirs."""

    def __call__(self, reference: Sequence[Object], found: Sequence[Object]) -> NDArray[np.float64]:
        """See :data:`Measure`."""
        shares = by_box(reference, found)
        for i, j in zip(*np.nonzero(shares), strict=True):
            one, other = reference[i], found[j]
            pair = (id(one), id(other))
            if pair not in self._pairs:
                self._pairs[pair] = one, other, _common_pixels(one.get("mask"), other.get("mask"))
            shares[i, j] = self._pairs[pair][2]
        return shares


def _common_pixels(first: Any, second: Any) -> float:
    """Return the intersection over union of two masks; 0: one is None, or both are empty."""
    if first is None or second is None:
        return 0.0
    one, other = decode(first), decode(second)
    (x0, y0), (x1, y1) = first["offset"], second["offset"]
    left, top = max(x0, x1), max(y0, y1)
    right, bottom = min(x0 + one.shape[1], x1 + other.shape[1]), min(y0 + one.shape[0], y1 + other.shape[0])
    if right <= left or bottom <= top:
        return 0.0
    part = one[top - y0 : bottom - y0, left - x0 : right - x0]
    common = int((part & other[top - y1 : bottom - y1, left - x1 : right - x1]).sum())
    union = int(one.sum()) + int(other.sum()) - common
    return common / union if union else 0.0


def are_quadrilaterals(objects: Iterable[Object]) -> bool:
    """Whether the points of each object are the four corners of a convex quadrilateral: a text, a plate."""
    points = [one.get("points") for one in objects]
    if not points or not all(isinstance(one, list | tuple) and len(one) == 4 for one in points):
        return False
    return are_quads(np.array(points, np.float64))


def by_corners(reference: Sequence[Object], found: Sequence[Object]) -> NDArray[np.float64]:
    """Intersection over union of turned boxes and other quadrilaterals, whose corners are their points."""
    shares = np.zeros((len(reference), len(found)))
    quads = [[np.asarray(one.get("points") or [], np.float32) for one in objects] for objects in (reference, found)]
    for i, j in zip(*np.nonzero(by_box(reference, found)), strict=True):
        one, other = quads[0][i], quads[1][j]
        if len(one) == len(other) == 4:
            common = cv2.intersectConvexConvex(one, other)[0]
            union = cv2.contourArea(one) + cv2.contourArea(other) - common
            shares[i, j] = common / union if union > 0 else 0.0
    return shares


def by_points(reference: Sequence[Object], found: Sequence[Object]) -> NDArray[np.float64]:
    """Object keypoint similarity; that of boxes where the reference shows no point."""
    shares = by_box(reference, found)
    for i, j in zip(*np.nonzero(shares), strict=True):
        x0, y0, x1, y1 = reference[i]["box"]
        alike = keypoint_similarity(reference[i], found[j], (x1 - x0) * (y1 - y0))
        shares[i, j] = shares[i, j] if alike is None else alike
    return shares


def keypoint_similarity(reference: Object, found: Object, area: float) -> float | None:
    """Return COCO's OKS: the mean over points that `reference` sees of exp(-d² / 2 area (2σ)²).

    None: it sees no point. 0: `found` has another number of points.
    """
    wanted, given = np.asarray(reference.get("points") or []), np.asarray(found.get("points") or [])
    if not len(wanted) or wanted.shape != given.shape:
        return None if not len(wanted) else 0.0
    seen = np.asarray(reference.get("visibility") or np.ones(len(wanted))) >= SEEN
    if not seen.any():
        return None
    sigmas = np.array(SIGMAS.get(len(wanted), (SIGMA,) * len(wanted)))
    squares = np.square(wanted - given).sum(axis=1)
    return float(np.exp(-squares / (2 * max(area, 1e-9) * (2 * sigmas) ** 2))[seen].mean())


def _boxes(objects: Sequence[Object]) -> NDArray[np.float64]:
    return np.array([one["box"] for one in objects], np.float64).reshape(-1, 4)
