"""IDF1: how nearly tracks agree with a reference, at an overlap (IoU) of 0.5. Pure.

Ristani et al., *Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking*, 2016: each track is one
object of the reference for good, those that give most boxes right; IDF1 = 2 · right / (boxes there + boxes found).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hams_services.pipeline.tracking.boxes import Array, iou

OVERLAP = 0.5
Frame = tuple[Sequence[int], Array]
"""Ids and N×4 boxes (x0, y0, x1, y1) of one frame; of a reference, or of tracks."""


def overlap_of(reference: Frame, tracks: Frame) -> Array:
    """Return the N×M overlaps of the boxes of a frame."""
    (ids, boxes), (names, places) = reference, tracks
    return iou(boxes, places) if len(ids) and len(names) else np.zeros((len(ids), len(names)))


def idf1(reference: Sequence[Frame], tracks: Sequence[Frame]) -> float:
    """Compare `tracks` with `reference`, frame by frame; 0 where neither has any."""
    together: Counter[tuple[int, int]] = Counter()
    boxes = 0
    for one, other in zip(reference, tracks, strict=True):
        boxes += len(one[0]) + len(other[0])
        alike = overlap_of(one, other)
        together.update((one[0][i], other[0][j]) for i, j in np.argwhere(alike >= OVERLAP).tolist())
    return 2 * _right(together) / max(boxes, 1)


def _right(together: Counter[tuple[int, int]]) -> int:
    """Return in how many boxes the tracks are right, when each is one thing of the reference for good."""
    ones, others = sorted({a for a, _ in together}), sorted({b for _, b in together})
    row, column = {one: i for i, one in enumerate(ones)}, {one: j for j, one in enumerate(others)}
    counts = np.zeros((len(ones), len(others)))
    for (a, b), count in together.items():
        counts[row[a], column[b]] = count
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())
