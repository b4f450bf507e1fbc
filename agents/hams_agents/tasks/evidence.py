"""What the numbers of one trial tell of a network's outputs, where shapes leave it open. Pure.

The trial is an image of noise: whether numbers are probabilities shows there as well as anywhere, what they mean does
not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Outputs

Params = dict[str, Any]


def refined(kind: str, params: Params, sample: Outputs) -> Params | None:
    """Return the parameters of task `kind` with what `sample` (N = 1) adds; None: it shows that they do not fit."""
    match kind:
        case "classification" | "expectation":
            sums = sums_to_one(_picked(params, sample))
            rest = {key: value for key, value in params.items() if key != "activation"}
            return {**rest, "activation": "none"} if sums else rest
        case "attributes":
            return _attributes(params, sample)
        case "landmarks":
            return _landmarks(params, sample)
        case "text":
            return _text(params, sample)
        case "ssd" | "retinaface":
            return _scored(kind, params, sample)
        case _:
            return params


def sums_to_one(values: NDArray[np.generic]) -> bool:
    """Return whether each row of the last axis that counts is a distribution over classes."""
    numbers = _numbers(values)
    return numbers.size > 1 and bool((numbers >= -1e-4).all()) and abs(float(numbers.sum()) - 1) < 0.01


def has_length_one(values: NDArray[np.generic]) -> bool:
    """Return whether it is a unit vector."""
    return abs(float(np.linalg.norm(_numbers(values))) - 1) < 0.01


def counts(values: NDArray[np.generic]) -> bool:
    """Return whether they are whole numbers from -1, as lists of characters or classes are, and not 0 only."""
    numbers = _numbers(values)
    return bool(numbers.any() and (numbers >= -1).all() and (numbers == np.round(numbers)).all())


def probable(values: NDArray[np.generic]) -> bool:
    """Return whether each can be a probability."""
    return _within(values)


def _within(values: NDArray[np.generic], low: float = 0.0, high: float = 1.0) -> bool:
    numbers = _numbers(values)
    return bool(numbers.size and (numbers >= low).all() and (numbers <= high).all())


def _numbers(values: NDArray[np.generic]) -> NDArray[np.float64]:
    return values.astype(np.float64).ravel()


def _picked(params: Mapping[str, Any], sample: Outputs) -> NDArray[np.generic]:
    return sample[params["output"]] if "output" in params else next(iter(sample.values()))


def _attributes(params: Params, sample: Outputs) -> Params | None:
    """Outputs whose numbers sum to 1 are classes; others in 0..1 are flags or, two of them, a point."""
    if "flags" in params:
        values = _picked(params, sample)
        return None if sums_to_one(values) else {"flags": _flags(values)}
    classes: Params = {}
    flags: Params = {}
    points: Params = {}
    for name, of in params["classes"].items():
        values = sample[of["output"]]
        if sums_to_one(values):
            classes[name] = of
        elif not _within(values):
            classes[name] = {**of, "activation": "softmax"}
        elif values.size == 2:
            points[name] = of["output"]
        elif not flags:
            flags = {**of, **_flags(values)}
        else:
            return None
    found = {"classes": classes, "flags": flags, "points": points}
    return {key: value for key, value in found.items() if value} if classes or flags else None


def _flags(values: NDArray[np.generic]) -> Params:
    return {} if _within(values) else {"activation": "sigmoid"}


def _landmarks(params: Params, sample: Outputs) -> Params | None:
    if sums_to_one(_picked(params, sample)):
        return None
    found = {**params, **({"normalized": True} if _within(_picked(params, sample), -0.5, 1.5) else {})}
    if "score_output" in params and _within(sample[params["score_output"]]):
        found["score_activation"] = "none"
    return found


def _text(params: Params, sample: Outputs) -> Params | None:
    values = _picked(params, sample)
    if params.get("decode") == "indices":
        return params if counts(values) else None
    numbers = values.astype(np.float64)
    sums = any(bool((abs(numbers.sum(axis=axis) - 1) < 0.01).all()) for axis in range(1, numbers.ndim))
    return params if sums else {**params, "activation": "softmax"}


def _scored(kind: str, params: Params, sample: Outputs) -> Params:
    """Scores are probabilities already, or become them."""
    names = params.get("outputs")
    likely = sorted(sample.values(), key=lambda one: (one.shape[-1] != 1, one.shape[-1] == 4))
    values = sample[names[1]] if names else likely[0]
    if _within(values):
        return {**params, "activation": "none"} if kind == "ssd" else params
    if kind == "retinaface":
        return {**params, "activation": "softmax" if values.shape[-1] == 2 else "sigmoid"}
    return params
