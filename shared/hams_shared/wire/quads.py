"""Four points of an object as its outline: a text, a plate, a turned box. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def are_quads(points: NDArray[np.float64]) -> bool:
    """Return whether each of K×4×2 points are the corners of a convex quadrilateral, clockwise (y goes down)."""
    sides = np.roll(points, -1, axis=1) - points
    following = np.roll(sides, -1, axis=1)
    return bool((sides[..., 0] * following[..., 1] > sides[..., 1] * following[..., 0]).all())
