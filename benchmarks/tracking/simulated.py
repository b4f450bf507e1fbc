"""Scored detections as a detector might make of a reference: hidden people have low scores, or none.

A simulation: it shows both stages of ByteTrack at work where the truth is known, and is no measurement of a detector.
"""

from __future__ import annotations

import numpy as np

from hams_services.pipeline.tracking.boxes import Array
from hams_services.pipeline.tracking.identity import Frame

JITTER = 0.04
"""Standard deviation of each edge, in parts of the box's sides."""
MISSED, FALSE = 0.05, 0.3
"""Part of the visible people that is not found at all; false boxes per frame."""


def scored(reference: list[Frame], seed: int) -> list[Array]:
    """Return K×5 rows x0, y0, x1, y1, score for each frame."""
    random = np.random.default_rng(seed)
    everything = np.concatenate([boxes for _, boxes in reference])
    corner = everything[:, 2:].max(axis=0)
    found = []
    for _, boxes in reference:
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        shaken = boxes + random.normal(0, JITTER, boxes.shape) * sides
        scores = visible(boxes) * 0.95 + random.normal(0, 0.08, len(boxes))
        kept = (scores > 0.1) & (random.random(len(boxes)) > MISSED)
        rows = np.column_stack((shaken, scores.clip(0, 1)))[kept]
        count = random.poisson(FALSE)
        shape = everything[random.integers(0, len(everything), count)]
        places = random.random((count, 2)) * corner
        false = np.column_stack((places, places + shape[:, 2:] - shape[:, :2], random.uniform(0.1, 0.7, count)))
        found.append(np.concatenate((rows, false)))
    return found


def visible(boxes: Array) -> Array:
    """Return the part of each of N×4 boxes that no other one hides; of two, the one that ends lower hides."""
    hidden = np.zeros(len(boxes))
    for row, box in enumerate(boxes):
        for other in boxes[boxes[:, 3] > box[3]]:
            wide, high = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            part = max(wide, 0) * max(high, 0) / np.prod(box[2:] - box[:2])
            hidden[row] = max(hidden[row], part)
    return 1 - hidden
