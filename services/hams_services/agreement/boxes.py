"""Objects against reference objects: matched by how alike they are, label by label. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hams_services.agreement.likeness import Measure, Object, by_box

OVERLAPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""Least likeness of a match; average precision is the mean over these."""


def match(
    reference: Sequence[Object], found: Sequence[Object], overlap: float, measure: Measure = by_box
) -> list[tuple[int, int, float]]:
    """Return (index in reference, index in found, overlap) of each match.

    The best score takes first, the box it overlaps most; labels must be equal.
    """
    if not reference or not found:
        return []
    overlaps = measure(reference, found)
    free = set(range(len(reference)))
    pairs: list[tuple[int, int, float]] = []
    for index in sorted(range(len(found)), key=lambda i: -float(found[i].get("score", 1.0))):
        fits = [
            i for i in free if reference[i].get("label") == found[index].get("label") and overlaps[i, index] >= overlap
        ]
        if fits:
            best = max(fits, key=lambda i: (overlaps[i, index], -i))
            free.discard(best)
            pairs.append((best, index, float(overlaps[best, index])))
    return pairs


def average_precision(
    reference: Sequence[Sequence[Object]],
    found: Sequence[Sequence[Object]],
    overlap: float,
    threshold: float = 0.0,
    measure: Measure = by_box,
) -> float:
    """Return the mean over labels of the area under precision over recall (all points), 0…1.

    One list of objects per image. A label that only `found` has counts 0: it is wrong each time. Everingham et al.,
    *The Pascal Visual Object Classes Challenge*, IJCV 2010, with the interpolation of 2010 on. Objects below
    `threshold` are as in :func:`compare_boxes`, and as the difficult ones there.
    """
    counted = (one for image in (*reference, *found) for one in image if _counts(one, threshold))
    labels = sorted({str(one.get("label")) for one in counted})
    if not labels:
        return 1.0
    return sum(_label_precision(label, reference, found, overlap, threshold, measure) for label in labels) / len(labels)


def compare_boxes(
    reference: Sequence[Sequence[Object]],
    found: Sequence[Sequence[Object]],
    threshold: float = 0.0,
    measure: Measure = by_box,
) -> dict[str, float]:
    """Return ``ap50_75`` (over `OVERLAPS`), ``ap50``, ``precision``, ``recall``, ``f1`` at 0.5, ``iou``, ``objects``.

    ``iou`` is the mean likeness by `measure`: boxes, or what of :mod:`hams_services.agreement.likeness`.

    Objects with a score below `threshold` are ignored detections: alone they are neither found nor wrong, but they
    may match an object at or above it. ``strict_f1`` is without them. Where objects have points without visibility
    and without an angle there is ``point_error``: their mean distance over the square root of the box's area.
    """
    precisions = [average_precision(reference, found, overlap, threshold, measure) for overlap in OVERLAPS]
    pairs = [
        [pair for pair in match(a, b, 0.5, measure) if _counts(a[pair[0]], threshold)]
        for a, b in zip(reference, found, strict=True)
    ]
    hits = sum(map(len, pairs))
    wanted, wrong = _count(reference, threshold), _wrong(reference, found, threshold, measure)
    metrics = {
        "ap50_75": sum(precisions) / len(precisions),
        "ap50": precisions[0],
        "precision": hits / (hits + wrong) if hits + wrong else float(not wanted),
        "recall": hits / wanted if wanted else 1.0,
        "f1": 2 * hits / (hits + wanted + wrong) if wanted + wrong else 1.0,
        "iou": sum(o for image in pairs for *_, o in image) / hits if hits else float(not wanted),
        "objects": float(wanted),
    }
    if threshold:
        metrics["strict_f1"] = compare_boxes(_above(reference, threshold), _above(found, threshold), 0.0, measure)["f1"]
    errors = [
        _point_error(a[i], b[j]) for a, b, image in zip(reference, found, pairs, strict=True) for i, j, _ in image
        if _has_points(a[i]) and _has_points(b[j]) and len(a[i]["points"]) == len(b[j]["points"])
    ]  # fmt: skip
    if errors:
        metrics["point_error"] = sum(errors) / len(errors)
    return metrics


def _counts(one: Object, threshold: float) -> bool:
    return float(one.get("score", 1.0)) >= threshold


def _above(images: Sequence[Sequence[Object]], threshold: float) -> list[list[Object]]:
    return [[one for one in image if _counts(one, threshold)] for image in images]


def _count(images: Sequence[Sequence[Object]], threshold: float) -> int:
    return sum(map(len, _above(images, threshold)))


def _has_points(one: Object) -> bool:
    return bool(one.get("points")) and "visibility" not in one and "angle" not in one


def _wrong(
    reference: Sequence[Sequence[Object]], found: Sequence[Sequence[Object]], threshold: float, measure: Measure
) -> int:
    """Return how many objects of `found` match none of `reference`."""
    right = 0
    for a, b in zip(reference, found, strict=True):
        right += sum(_counts(b[index], threshold) for _, index, _ in match(a, b, 0.5, measure))
    return _count(found, threshold) - right


def _label_precision(
    label: str,
    reference: Sequence[Sequence[Object]],
    found: Sequence[Sequence[Object]],
    overlap: float,
    threshold: float,
    measure: Measure,
) -> float:
    total = 0
    marks: list[tuple[float, bool]] = []
    for wanted, given in zip(reference, found, strict=True):
        wanted = [one for one in wanted if str(one.get("label")) == label]
        given = [one for one in given if str(one.get("label")) == label]
        partner = {index: wanted[other] for other, index, _ in match(wanted, given, overlap, measure)}
        total += sum(_counts(one, threshold) for one in wanted)
        for index, one in enumerate(given):
            other = partner.get(index)
            if _counts(other if other is not None else one, threshold):  # ignored in both: counts for nothing
                marks.append((float(one.get("score", 1.0)), other is not None))
    if not total:
        return float(not marks)
    marks.sort(key=lambda mark: -mark[0])
    hits = np.cumsum([good for _, good in marks]) if marks else np.zeros(0)
    precision = hits / np.arange(1, len(marks) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate(([0.0], hits / total))
    return float((np.diff(recall) * envelope).sum())


def _point_error(reference: Object, found: Object) -> float:
    x0, y0, x1, y1 = reference["box"]
    size = max(((x1 - x0) * (y1 - y0)) ** 0.5, 1e-9)
    distances = np.linalg.norm(np.subtract(reference["points"], found["points"]), axis=1)
    return float(distances.mean() / size)
