"""Non-maximum suppression: of boxes that overlap, the best one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def keep_best(boxes: NDArray[np.float64], scores: NDArray[np.float64], iou: float) -> NDArray[np.intp]:
    """Return the indices of the boxes (K×4: x0, y0, x1, y1) that stay, best score first.

    Greedy: a box goes when its intersection over union with a better one that stays is more than `iou`. Equal scores
    keep the order of `boxes`, so that the answer is always the same.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[np.intp] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (high - low).clip(0).prod(axis=1)
        order = rest[overlap <= iou * (areas[best] + areas[rest] - overlap)]
    return np.array(kept, np.intp)
