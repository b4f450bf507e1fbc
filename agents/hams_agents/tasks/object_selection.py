"""From a detector's candidates to the objects it found: what all detectors do alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected
from hams_agents.tasks.geometry import apply, boxes_through
from hams_agents.tasks.nms import keep_best
from hams_agents.tasks.outputs import sigmoid, softmax

Activation = Literal["sigmoid", "softmax", "none"]

MAX_CANDIDATES = 2000
"""Most candidates considered per image, the best ones: bounds the time on an image that is all noise."""


@dataclass(frozen=True)
class Choice:
    """Which candidates are objects."""

    names: Mapping[int, str]
    """By class number; one class is number 0."""
    iou: float
    """Of two boxes of one class that overlap more, the lower score goes."""
    min_size: float
    """Least side of a box, pixels of the input."""
    max_objects: int


def choose(
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    choice: Choice,
    size: NDArray[np.float64],
    to_frame: Affine,
    frame_size: tuple[int, int] | None,
    classes: NDArray[np.intp] | None = None,
) -> list[Detected]:
    """Return the objects among K candidates of one image, in frame pixels, best score first.

    `boxes` (K×4: x0, y0, x1, y1) and `points` (K×P×2) are pixels of the input, whose width and height are `size`;
    `classes` are K numbers, none: all 0. Boxes are clipped to it and to the frame; those that are empty then, or not
    finite, are left out, and so is the lower score of two of one class that overlap.
    """
    if classes is None:
        classes = np.zeros(len(scores), np.intp)
    clipped = boxes.clip(0, np.tile(size, 2))
    sides = clipped[:, 2:] - clipped[:, :2]
    finite = np.isfinite(clipped).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
    good = finite & (sides > 0).all(axis=1) & (sides >= choice.min_size).all(axis=1)
    clipped, points, scores, classes = clipped[good], points[good], scores[good], classes[good]
    apart = classes if len(choice.names) > 1 else None
    kept = keep_best(clipped, scores, choice.iou, apart, choice.max_objects)
    found = boxes_through(to_frame, clipped[kept])
    if frame_size is not None:
        found = found.clip(0, np.tile(frame_size, 2))
    points, scores = apply(to_frame, points[kept]), scores[kept]
    names = [choice.names[number] for number in classes[kept].tolist()]
    return [
        Detected((box[0], box[1], box[2], box[3]), float(scores[i]), names[i], points[i] if points.shape[1] else None)
        for i, box in enumerate(found.tolist())
        if box[2] > box[0] and box[3] > box[1]
    ]


def best(scores: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return the indices of the `most` best scores, the best first; earlier ones when equal."""
    return np.argsort(-scores, kind="stable")[:most]


def over_threshold(
    values: NDArray[np.generic], wanted: NDArray[np.intp], activation: Activation, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Find which of the P×C `values` score at least `threshold`; the best ``MAX_CANDIDATES`` at most.

    Only the classes `wanted` count. Returns K rows, classes and scores. Few values pass, so the activation is computed
    for these alone: a sigmoid grows with its value, and a softmax is never more than the sigmoid of its value's lead
    over any one other class.
    """
    few: NDArray[np.floating] = values[:, wanted] if len(wanted) < values.shape[1] else values  # type: ignore[assignment]
    if activation == "softmax" and 0 not in wanted:
        few = few.astype(np.float32) - values[:, :1].astype(np.float32)
    elif activation == "softmax":
        few = np.full(few.shape, np.inf)
    least = threshold if activation == "none" else math.log(threshold / (1 - threshold))
    row, column = np.divmod(np.flatnonzero(few >= least), len(wanted))
    classes = wanted[column]
    if activation == "softmax":
        distinct, back = np.unique(row, return_inverse=True)
        scores = softmax(values[distinct].astype(np.float32))[back, classes].astype(np.float64)
        passed = scores >= threshold
        row, classes, scores = row[passed], classes[passed], scores[passed]
    else:
        numbers = values[row, classes].astype(np.float32)
        scores = (sigmoid(numbers) if activation == "sigmoid" else numbers).astype(np.float64)
    if len(scores) > MAX_CANDIDATES:
        first = best(scores, MAX_CANDIDATES)
        row, classes, scores = row[first], classes[first], scores[first]
    return row, classes, scores
