"""Predictions of a node against reference predictions, or against labels: metrics, and one number, the agreement.

The kind of prediction (a list of objects; a map with label, value, text, points …) decides the metrics, so that tasks
of plug-ins are compared as well. The agreement is the least of the parts' agreements. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hams_services.agreement.boxes import compare_boxes
from hams_services.agreement.likeness import (
    ByMask,
    Measure,
    are_quadrilaterals,
    by_corners,
    by_points,
    keypoint_similarity,
)
from hams_services.agreement.maps import MADE_OF_IT, compare_maps
from hams_services.agreement.values import (
    ANGLES,
    angle_error,
    cosine,
    full_range,
    point_error,
    text_error,
)
from hams_shared.errors import BadInputError
from hams_shared.wire.maps import is_map

Item = Any
"""A node's prediction for one image: a list of objects, or a map."""

SURE = 0.5
"""A flag (an attribute that is there or not) is set from this probability on."""
_NOT_COMPARED = frozenset({"objects", "unit", "point_names", "visibility", "skeleton", "score", "scores", "open"})


@dataclass(frozen=True)
class Comparison:
    """The result."""

    agreement: float
    """0…1."""
    metrics: dict[str, float]


def compare(reference: Sequence[Item], found: Sequence[Item], threshold: float | None = None) -> Comparison:
    """Compare predictions for the same images; for `threshold` see :func:`compare_boxes`.

    Raises:
        BadInputError: there is nothing to compare: no images, no object in `reference`, or other kinds of predictions.
    """
    if len(reference) != len(found) or not reference:
        raise BadInputError(f"{len(reference)} answers cannot be compared with {len(found)}")
    kinds = {isinstance(item, Mapping) for item in (*reference, *found)}
    if len(kinds) > 1:
        raise BadInputError("objects cannot be compared with descriptions", "are the labels those of another node?")
    if kinds == {True}:
        parts, metrics = _descriptions(reference, found)
    else:
        metrics = compare_boxes(reference, found, threshold or 0.0)
        if not metrics["objects"]:
            raise BadInputError(
                f"on none of {len(reference)} images there is an object to compare", "give images that show some"
            )
        parts = [metrics["ap50_75"], metrics["f1"]]
        if "point_error" in metrics:
            parts.append(1 - metrics["point_error"])
        for kind, measure in _shapes(reference).items():
            finer = compare_boxes(reference, found, threshold or 0.0, measure)
            parts += [finer["ap50_75"], finer["f1"]]
            metrics |= {f"{kind} {key}": finer[key] for key in ("ap50_75", "ap50", "f1", "iou")}
    if not parts:
        raise BadInputError("the answers hold nothing that can be compared")
    return Comparison(float(np.clip(min(parts), 0.0, 1.0)), {k: round(v, 6) for k, v in metrics.items()})


def _shapes(reference: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Measure]:
    """Return how objects are compared beyond their boxes, by what those of `reference` have."""
    objects = [one for image in reference for one in image]
    keys = {key for one in objects for key in one}
    found: dict[str, Measure] = {}
    if "mask" in keys:
        found["mask"] = ByMask()
    if "angle" in keys or are_quadrilaterals(objects):
        found["turned"] = by_corners
    if "visibility" in keys:
        found["points"] = by_points
    return found


def _descriptions(
    reference: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> tuple[list[float], dict[str, float]]:
    """Compare key by key of `reference`; labels may have fewer keys than predictions."""
    parts: list[float] = []
    metrics: dict[str, float] = {}
    left_out = _NOT_COMPARED | (MADE_OF_IT if all(is_map(item.get("map")) for item in reference) else set())
    for key in sorted({key for item in reference for key in item} - left_out):
        pairs = [(a[key], b.get(key)) for a, b in zip(reference, found, strict=True) if a.get(key) is not None]
        if not pairs:
            continue
        unit = next((item.get("unit") for item in reference), None)
        if key == "points" and any("visibility" in item for item in reference):
            alike = float(np.mean([_oks(a, b) for a, b in zip(reference, found, strict=True) if a.get(key)]))
            parts.append(alike)
            metrics["oks"] = alike
            continue
        result = _key(key, pairs, unit)
        if result is not None:
            agreement, figures = result
            parts.append(agreement)
            metrics.update(figures)
    return parts, metrics


_Result = tuple[float, dict[str, float]] | None


def _key(key: str, pairs: list[tuple[Any, Any]], unit: str | None) -> _Result:
    """Return the agreement and the figures of one key, None when it is of no kind that is known."""
    first = pairs[0][0]
    if key == "label":
        share = _mean(pairs, lambda a, b: float(a == b))
        return share, {"same_label": share}
    if key == "text":
        error = _mean(pairs, lambda a, b: text_error(a, b if isinstance(b, str) else ""))
        exact = _mean(pairs, lambda a, b: float(a == b))
        return 1 - error, {"text_error": error, "same_text": exact}
    if key == "embedding":
        mean = _mean(pairs, lambda a, b: 0.0 if b is None else cosine(a, b))
        return mean, {"cosine": mean, "least_cosine": min(0.0 if b is None else cosine(a, b) for a, b in pairs)}
    if key == "points":
        error = _mean(pairs, lambda a, b: 1.0 if b is None else point_error(a, b))
        return 1 - error, {"point_error": error}
    if key == "map" and is_map(first):
        return compare_maps(pairs)
    if key == "shares":
        share = _mean(pairs, _common_share)
        return share, {"same_shares": share}
    if key == "attributes":
        return _attributes(pairs)
    if key == "pose":
        error = _mean(pairs, lambda a, b: 90.0 if b is None else float(np.mean([angle_error(a[k], b[k]) for k in a])))
        return 1 - error / 90.0, {"degrees": error}
    if isinstance(first, int | float):
        return _numbers(key, pairs, "degrees" if key in ANGLES else unit)
    if isinstance(first, Mapping) and "values" in first:
        mean = _mean(pairs, _raw_cosine)
        return mean, {f"cosine {key}": mean}
    if isinstance(first, list) and first and isinstance(first[0], int | float):
        mean = _mean(pairs, lambda a, b: 0.0 if b is None else cosine(a, b))
        return mean, {f"cosine {key}": mean}
    return None


def _common_share(reference: Mapping[str, float], found: Any) -> float:
    """Return the part of the image of which both have the same class, at most."""
    given = found if isinstance(found, Mapping) else {}
    return sum(min(share, float(given.get(label, 0.0))) for label, share in reference.items())


def _oks(reference: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """Return the similarity of two items' points; the object's area is taken as that which the points span."""
    points = np.asarray(reference["points"], np.float64)
    alike = keypoint_similarity(reference, found, float(np.ptp(points[:, :2], axis=0).prod()))
    return 1.0 if alike is None else alike


def _mean(pairs: list[tuple[Any, Any]], what: Callable[[Any, Any], float]) -> float:
    return float(np.mean([what(a, b) for a, b in pairs]))


def _numbers(key: str, pairs: list[tuple[Any, Any]], unit: str | None) -> tuple[float, dict[str, float]]:
    reference = np.array([a for a, _ in pairs], np.float64)
    full = full_range(unit, reference)
    errors = [full if not isinstance(b, int | float) else _distance(key, float(a), float(b)) for a, b in pairs]
    error = float(np.mean(errors))
    return 1 - min(error / full, 1.0), {f"error {key} {unit}" if unit else f"error {key}": error}


def _distance(key: str, first: float, second: float) -> float:
    return angle_error(first, second) if key in ANGLES else abs(first - second)


def _attributes(pairs: list[tuple[Any, Any]]) -> tuple[float, dict[str, float]]:
    """Return the mean over attributes of the share of images with the same value."""
    metrics: dict[str, float] = {}
    for name in sorted({name for a, _ in pairs for name in a}):
        known = [(a[name], (b or {}).get(name)) for a, b in pairs if name in a]
        metrics[f"same {name}"] = _mean(known, lambda a, b: float(_value(a) == _value(b)))
    return float(np.mean(list(metrics.values()))) if metrics else 0.0, metrics


def _value(value: Any) -> Any:
    """Return an attribute's label, or whether a flag is up."""
    if isinstance(value, Mapping):
        return value.get("label")
    return float(value) >= SURE if isinstance(value, int | float) else value


def _raw_cosine(reference: Any, found: Any) -> float:
    if not isinstance(found, Mapping) or reference.get("shape") != found.get("shape"):
        return 0.0
    return cosine([v or 0.0 for v in reference["values"]], [v or 0.0 for v in found["values"]])
