"""Helpers of tasks: they pick tensors out of a network's outputs and select objects among a detector's candidates."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected, Outputs, Reads
from hams_agents.tasks.input import apply, boxes_through
from hams_shared.errors import TaskError

Activation = Literal["sigmoid", "softmax", "none"]

MAX_CANDIDATES = 2000
"""Most candidates considered per image, the best ones: bounds the time on an image that is all noise."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of `known`, then all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    listed = f"known: {', '.join(names) or 'none'}"
    return f"did you mean {close[0]}? {listed}" if close else listed


def pick(outputs: Outputs, name: str | None, task: str) -> NDArray[np.generic]:
    """Return the output called `name`, or the only one when `name` is None.

    Raises:
        TaskError: there is no such output, or several to choose from.
    """
    if name is not None:
        if name not in outputs:
            raise TaskError(f"task {task}: the network has no output {name!r}", did_you_mean(name, outputs))
        return outputs[name]
    if len(outputs) != 1:
        raise TaskError(
            f"task {task}: the network has {len(outputs)} outputs", f"name one with `output`: {', '.join(outputs)}"
        )
    return next(iter(outputs.values()))


def only(outputs: Outputs, name: str | None, task: str) -> Reads:
    """Return the one output that :func:`pick` picks, as all that a task reads. Raises as there."""
    pick(outputs, name, task)
    return {name or next(iter(outputs)): None}


def rows(values: NDArray[np.generic], count: int, task: str, width: int | None = None) -> NDArray[np.float32]:
    """Return `values` as N×K float32 for N = `count` images.

    Raises:
        TaskError: N or K (when `width` gives it) is another, or a value is not finite.
    """
    shape = "×".join(map(str, values.shape)) or "a scalar"
    if values.ndim == 0 or values.shape[0] != count:
        raise TaskError(f"task {task}: the output is {shape} for {count} images")
    flat = values.reshape(count, math.prod(values.shape[1:])).astype(np.float32, copy=False)
    if width is not None and flat.shape[1] != width:
        raise TaskError(f"task {task}: the output is {shape}, expected {count}×{width}")
    if not np.isfinite(flat).all():
        raise TaskError(
            f"task {task}: the network gave values that are not finite",
            "check the input's mean and scale, or use a device that computes in fp32",
        )
    return flat


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return N×K probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), without overflow."""
    result: NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * logits))
    return result


def probabilities(values: NDArray[np.float32], activation: str, task: str) -> NDArray[np.float32]:
    """Return N×K probabilities from logits (`activation` softmax or sigmoid) or from a network that ends in one (none).

    Raises:
        TaskError: none is stated and the values are not probabilities.
    """
    if activation == "softmax":
        return softmax(values)
    if activation == "sigmoid":
        return sigmoid(values)
    if values.size and (values.min() < -0.05 or values.max() > 1.05):
        raise TaskError(
            f"task {task}: the output reaches from {values.min():.3g} to {values.max():.3g}, no probabilities",
            "set `activation` to what makes probabilities of it",
        )
    return values


# ── detectors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Selection:
    """Which candidates are objects."""

    names: Mapping[int, str]
    """By class number; one class is number 0."""
    iou: float | None
    """Of two boxes of one class that overlap more, the lower score goes; None: the network left one box per object."""
    min_size: float
    """Least side of a box, pixels of the input."""
    max_objects: int


def choose(
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    selection: Selection,
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
    finite: NDArray[np.bool_] = np.isfinite(points).all(axis=(1, 2))  # type: ignore[assignment]
    kept, found = placed(boxes, scores, selection, size, to_frame, frame_size, classes, finite)
    moved = apply(to_frame, points[kept]) if points.shape[1] else [None] * len(kept)
    return [
        Detected((box[0], box[1], box[2], box[3]), float(scores[i]), selection.names[int(classes[i])], at)
        for i, box, at in zip(kept, found.tolist(), moved, strict=True)
    ]


def placed(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    selection: Selection,
    size: NDArray[np.float64],
    to_frame: Affine,
    frame_size: tuple[int, int] | None,
    classes: NDArray[np.intp],
    good: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which of K candidates are objects, best score first, and the boxes of these in frame pixels.

    As :func:`choose`; candidates that are not `good` are left out.
    """
    clipped = boxes.clip(0, np.tile(size, 2))
    sides = clipped[:, 2:] - clipped[:, :2]
    fit = np.isfinite(clipped).all(axis=1) & (sides > 0).all(axis=1) & (sides >= selection.min_size).all(axis=1)
    rest = np.flatnonzero(fit if good is None else fit & good)
    if selection.iou is None:
        kept = rest[best(scores[rest], selection.max_objects)]
    else:
        apart = classes[rest] if len(selection.names) > 1 else None
        kept = rest[keep_best(clipped[rest], scores[rest], selection.iou, apart, selection.max_objects)]
    found = boxes_through(to_frame, clipped[kept])
    if frame_size is not None:
        found = found.clip(0, np.tile(frame_size, 2))
    there = (found[:, 2:] > found[:, :2]).all(axis=1)
    return kept[there], found[there]


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
