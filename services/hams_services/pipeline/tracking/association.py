"""Which detection is which track: overlaps, a gate, and the assignment with the largest sum. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hams_services.pipeline.tracking.boxes import Array, iou

Rows = NDArray[np.intp]
LARGER = np.array([[1, 0, -1, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, 0, 1]])
"""A box (x0, y0, x1, y1) times this: how its corners move when it grows by its sides on each side."""


def overlaps(one: Array, other: Array, margin: float = 0.0) -> Array:
    """Return the N×M overlaps (IoU) of boxes that were made larger by `margin` × their sides on each side.

    A margin lets small and fast objects overlap between distant frames (Yang et al., *Hard to Track Objects with
    Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching Space*, WACV 2023).
    """
    if margin:
        larger = np.eye(4) + margin * LARGER
        one, other = one @ larger, other @ larger
    return iou(one, other)


def assign(alike: Array, least: float | Array) -> tuple[Rows, Rows]:
    """Return pairs (rows, columns) of an N×M matrix with the largest sum, each row and column at most once.

    Pairs below `least` (> 0; one value, or N×1) are left out, and not only of the answer: they would have kept their
    partners from the next best pair.
    """
    if not alike.size:
        nothing = np.empty(0, np.intp)
        return nothing, nothing
    gated = np.where(alike >= least, alike, 0.0)
    rows, columns = linear_sum_assignment(gated, maximize=True)
    wanted = gated[rows, columns] > 0
    return rows[wanted], columns[wanted]
