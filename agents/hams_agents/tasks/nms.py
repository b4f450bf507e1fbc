"""Non-maximum suppression: of boxes that overlap, the best one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def keep_best(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    iou: float,
    classes: NDArray[np.intp] | None = None,
    limit: int | None = None,
) -> NDArray[np.intp]:
    """Return the indices of the boxes (K×4: x0, y0, x1, y1) that stay, best score first, `limit` at most.

    Greedy: a box goes when its intersection over union with a better one that stays, and has the same of the K
    `classes`, is more than `iou`. Equal scores keep the order of `boxes`, so that the answer is always the same.
    """
    if classes is not None and len(classes):  # in one pass: each class in a place of its own, far from the others
        boxes = boxes + (classes * (float(boxes.max() - boxes.min()) + 1.0))[:, None]
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[np.intp] = []
    while len(order) and (limit is None or len(kept) < limit):
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (high - low).clip(0).prod(axis=1)
        order = rest[overlap <= iou * (areas[best] + areas[rest] - overlap)]
    return np.array(kept, np.intp)
