"""Maps of classes and of depths against each other, as they are on the wire. Pure.

Everingham et al., *The Pascal Visual Object Classes Challenge*, IJCV 2010: intersection over union of each class, over
all images. Eigen, Puhrsch, Fergus, *Depth Map Prediction from a Single Image*, NeurIPS 2014: absolute relative error
and the share within 1.25; Ranftl et al. (MiDaS), TPAMI 2022: inverse depths are compared after scale and offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_shared.errors import BadInputError
from hams_shared.wire import maps

VOID = 255
"""The class of pixels that do not count, as in labels of Cityscapes and Pascal VOC, unless the map has a ``void``."""
LEAST_SHARE = 0.001
"""Classes that cover less of the reference are left out of the mean: a few pixels say little."""
MADE_OF_IT = frozenset({"label", "score", "shares", "kind", "value", "min", "max", "mean", "quantiles"})
"""Facts that a task takes out of its map: where the map itself is compared they are not."""
Pair = tuple[Mapping[str, Any], Any]


def compare_maps(pairs: Sequence[Pair]) -> tuple[float, dict[str, float]]:
    """Return agreement and figures of (reference, found) maps. Raises MessageError: one is no map; BadInputError."""
    return _depths(pairs) if "scale" in pairs[0][0] else _classes(pairs)


def _classes(pairs: Sequence[Pair]) -> tuple[float, dict[str, float]]:
    size = 1 << 16
    common, wanted, given = (np.zeros(size + 1, np.int64) for _ in range(3))
    for reference, found in pairs:
        a = maps.pixels(reference).astype(np.int64)
        b = (
            np.full(a.shape, size)
            if not maps.is_map(found)
            else _same_size(maps.pixels(found), a.shape, False).astype(np.int64)
        )
        counted = a != reference.get("void", VOID)
        a, b = a[counted], b[counted]
        for total, values in ((common, a[a == b]), (wanted, a), (given, b)):
            total += np.bincount(values, minlength=size + 1)
    if not wanted.sum():
        raise BadInputError("no pixel of the maps counts")
    large = wanted >= LEAST_SHARE * wanted.sum()
    shares = common[large] / (wanted + given - common)[large]
    return float(shares.mean()), {
        "miou": float(shares.mean()),
        "least_iou": float(shares.min()),
        "same_pixels": float(common.sum() / wanted.sum()),
        "classes": float(large.sum()),
    }


def _depths(pairs: Sequence[Pair]) -> tuple[float, dict[str, float]]:
    errors: list[float] = []
    within: list[float] = []
    for reference, found in pairs:
        a, pixels = _depth(reference), maps.pixels(reference)
        counted = pixels != reference["void"] if "void" in reference else np.ones(a.shape, bool)
        if not maps.is_map(found) or not counted.any():
            errors, within = [*errors, 1.0], [*within, 0.0]
            continue
        a, b = a[counted], _same_size(_depth(found), a.shape, True)[counted]
        metric = reference.get("kind") == "metric"
        error, share = _relative(a, b) if metric else (_aligned(a, b), 0.0)
        errors, within = [*errors, min(error, 1.0)], [*within, share]
    error = float(np.mean(errors))
    if pairs[0][0].get("kind") != "metric":
        return 1 - error, {"depth_error": error}
    return 1 - error, {"abs_rel": error, "delta_1.25": float(np.mean(within))}


def _relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of ``|a - b| / a``, and the share of pixels where neither is more than 1.25 times the other."""
    good = a > 0
    if not good.any():
        return 1.0, 0.0
    a, b = a[good], b[good]
    ratio = np.maximum(a, b) / np.maximum(np.minimum(a, b), 1e-9)
    return float((np.abs(a - b) / a).mean()), float((ratio < 1.25).mean())


def _aligned(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the mean of ``|a - (s b + t)|`` over the range of `a` from 5 to 95 %, with the best s > 0 and t."""
    low, high = np.quantile(a, (0.05, 0.95)).tolist()
    spread = (high - low) or float(np.ptp(a)) or max(1e-9, abs(float(a.mean())))
    centred = b - b.mean()
    power = float((centred**2).mean())
    slope = max(0.0, float((centred * (a - a.mean())).mean()) / power) if power else 0.0
    return float(np.abs(a - a.mean() - slope * centred).mean() / spread)


def _depth(one: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.asarray(maps.values(one), np.float64)


def _same_size(values: NDArray[Any], shape: tuple[int, ...], smooth: bool) -> NDArray[Any]:
    if values.shape == shape:
        return values
    how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=how))
