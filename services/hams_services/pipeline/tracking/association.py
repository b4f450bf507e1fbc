"""Which detection is which track: overlaps, a gate, and the assignment with the largest sum. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hams_services.pipeline.tracking.boxes import Array, iou

Rows = NDArray[np.intp]


def overlaps(one: Array, other: Array, margin: float = 0.0) -> Array:
    """Return the N×M overlaps (IoU) of boxes that were made larger by `margin` × their sides on each side.

    A margin lets small and fast objects overlap between distant frames (Yang et al., *Hard to Track Objects with
    Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching Space*, WACV 2023).
    """
    if margin:
        one, other = _larger(one, margin), _larger(other, margin)
    return iou(one, other)


def assign(alike: Array, least: float) -> tuple[Rows, Rows]:
    """Return pairs (rows, columns) of an N×M matrix with the largest sum, each row and column at most once.

    Pairs below `least` (> 0) are out of the question. They are so before the assignment: removed from its answer they
    would have kept their partners from the next best pair.
    """
    if not alike.size:
        nothing = np.empty(0, np.intp)
        return nothing, nothing
    gated = np.where(alike >= least, alike, 0.0)
    rows, columns = linear_sum_assignment(gated, maximize=True)
    wanted = gated[rows, columns] > 0
    return rows[wanted], columns[wanted]


def _larger(boxes: Array, margin: float) -> Array:
    add = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate((boxes[:, :2] - add, boxes[:, 2:] + add), axis=1)
