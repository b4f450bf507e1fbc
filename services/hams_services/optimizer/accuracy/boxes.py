"""Objects against objects: matched by the overlap of their boxes, label by label. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Object = Mapping[str, Any]
"""``box`` (x0, y0, x1, y1), ``label``, ``score``, perhaps ``points``, as a detector node says it."""

OVERLAPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""Least intersection over union of a match; average precision is the mean over these."""


def iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the N×M intersections over unions of N×4 and M×4 boxes; 0 where both have no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def match(truth: Sequence[Object], found: Sequence[Object], overlap: float) -> list[tuple[int, int, float]]:
    """Return (index in truth, index in found, overlap) of each match.

    The best score takes first, the box it overlaps most; labels must be equal.
    """
    if not truth or not found:
        return []
    overlaps = iou(_boxes(truth), _boxes(found))
    free = set(range(len(truth)))
    pairs: list[tuple[int, int, float]] = []
    for index in sorted(range(len(found)), key=lambda i: -float(found[i].get("score", 1.0))):
        fits = [i for i in free if truth[i].get("label") == found[index].get("label") and overlaps[i, index] >= overlap]
        if fits:
            best = max(fits, key=lambda i: (overlaps[i, index], -i))
            free.discard(best)
            pairs.append((best, index, float(overlaps[best, index])))
    return pairs


def average_precision(
    truth: Sequence[Sequence[Object]], found: Sequence[Sequence[Object]], overlap: float, threshold: float = 0.0
) -> float:
    """Return the mean over labels of the area under precision over recall (all points), 0…1.

    One list of objects per image. A label that only `found` has counts 0: it is wrong each time. Everingham et al.,
    *The Pascal Visual Object Classes Challenge*, IJCV 2010, with the interpolation of 2010 on. Objects below
    `threshold` are as in :func:`compare_boxes`, and as the difficult ones there.
    """
    said = (one for image in (*truth, *found) for one in image if _said(one, threshold))
    labels = sorted({str(one.get("label")) for one in said})
    if not labels:
        return 1.0
    return sum(_label_precision(label, truth, found, overlap, threshold) for label in labels) / len(labels)


def compare_boxes(
    truth: Sequence[Sequence[Object]], found: Sequence[Sequence[Object]], threshold: float = 0.0
) -> dict[str, float]:
    """Return ``map`` (over `OVERLAPS`), ``map50``, ``precision``, ``recall`` and ``f1`` at 0.5, ``iou``, ``objects``.

    Objects with a score below `threshold` are those that were nearly said: one that `truth` says is found by one that
    `found` nearly says, and what `found` says is not wrong where `truth` nearly says it. ``strict_f1`` is without them.
    Where objects have points there is ``point_error``: their mean distance over the square root of the box's area.
    """
    precisions = [average_precision(truth, found, overlap, threshold) for overlap in OVERLAPS]
    pairs = [
        [pair for pair in match(a, b, 0.5) if _said(a[pair[0]], threshold)] for a, b in zip(truth, found, strict=True)
    ]
    hits = sum(map(len, pairs))
    wanted, wrong = _count(truth, threshold), _wrong(truth, found, threshold)
    metrics = {
        "map": sum(precisions) / len(precisions),
        "map50": precisions[0],
        "precision": hits / (hits + wrong) if hits + wrong else float(not wanted),
        "recall": hits / wanted if wanted else 1.0,
        "f1": 2 * hits / (hits + wanted + wrong) if wanted + wrong else 1.0,
        "iou": sum(o for image in pairs for *_, o in image) / hits if hits else float(not wanted),
        "objects": float(wanted),
    }
    if threshold:
        metrics["strict_f1"] = compare_boxes(_above(truth, threshold), _above(found, threshold))["f1"]
    errors = [
        _point_error(a[i], b[j]) for a, b, image in zip(truth, found, pairs, strict=True) for i, j, _ in image
        if a[i].get("points") and b[j].get("points") and len(a[i]["points"]) == len(b[j]["points"])
    ]  # fmt: skip
    if errors:
        metrics["point_error"] = sum(errors) / len(errors)
    return metrics


def _said(one: Object, threshold: float) -> bool:
    return float(one.get("score", 1.0)) >= threshold


def _above(images: Sequence[Sequence[Object]], threshold: float) -> list[list[Object]]:
    return [[one for one in image if _said(one, threshold)] for image in images]


def _count(images: Sequence[Sequence[Object]], threshold: float) -> int:
    return sum(map(len, _above(images, threshold)))


def _wrong(truth: Sequence[Sequence[Object]], found: Sequence[Sequence[Object]], threshold: float) -> int:
    """How many objects `found` says that `truth` does not even nearly say."""
    right = 0
    for a, b in zip(truth, found, strict=True):
        right += sum(_said(b[index], threshold) for _, index, _ in match(a, b, 0.5))
    return _count(found, threshold) - right


def _label_precision(
    label: str, truth: Sequence[Sequence[Object]], found: Sequence[Sequence[Object]], overlap: float, threshold: float
) -> float:
    total = 0
    marks: list[tuple[float, bool]] = []
    for wanted, given in zip(truth, found, strict=True):
        wanted = [one for one in wanted if str(one.get("label")) == label]
        given = [one for one in given if str(one.get("label")) == label]
        partner = {index: wanted[other] for other, index, _ in match(wanted, given, overlap)}
        total += sum(_said(one, threshold) for one in wanted)
        for index, one in enumerate(given):
            other = partner.get(index)
            if _said(other if other is not None else one, threshold):  # what neither says counts for nothing
                marks.append((float(one.get("score", 1.0)), other is not None))
    if not total:
        return float(not marks)
    marks.sort(key=lambda mark: -mark[0])
    hits = np.cumsum([good for _, good in marks]) if marks else np.zeros(0)
    precision = hits / np.arange(1, len(marks) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate(([0.0], hits / total))
    return float((np.diff(recall) * envelope).sum())


def _boxes(objects: Sequence[Object]) -> NDArray[np.float64]:
    return np.array([one["box"] for one in objects], np.float64).reshape(-1, 4)


def _point_error(truth: Object, found: Object) -> float:
    x0, y0, x1, y1 = truth["box"]
    size = max(((x1 - x0) * (y1 - y0)) ** 0.5, 1e-9)
    distances = np.linalg.norm(np.subtract(truth["points"], found["points"]), axis=1)
    return float(distances.mean() / size)
