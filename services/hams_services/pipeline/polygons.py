"""Which points lie in a polygon. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ON_EDGE = 1e-9
"""A point this near to an edge, in units of the coordinates, is inside: a foot point may lie on the picture's edge."""


def inside(polygon: Sequence[tuple[float, float]], points: ArrayLike) -> NDArray[np.bool_]:
    """Return for N×2 `points` (x, y) whether each lies in the `polygon` (corners in order) or on its edge.

    Even-odd rule: where a polygon crosses itself, what it encloses twice is outside.
    """
    at = np.asarray(points, np.float64).reshape(-1, 1, 2)
    start = np.asarray(polygon, np.float64)
    end = np.roll(start, -1, axis=0)
    along, x, y = end - start, at[..., 0], at[..., 1]
    crosses = (start[:, 1] > y) != (end[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = start[:, 0] + (y - start[:, 1]) * along[:, 0] / along[:, 1]
    odd = np.count_nonzero(crosses & (x < meets), axis=1) % 2 == 1
    length = np.maximum((along**2).sum(axis=1), 1e-300)
    part = np.clip(((at - start) * along).sum(axis=2) / length, 0, 1)
    distance = np.linalg.norm(at - (start + part[..., None] * along), axis=2)
    return np.asarray(odd | (distance <= ON_EDGE).any(axis=1))
