"""Picking a task's tensor out of a network's outputs, and checking that it fits."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Outputs
from hams_shared.errors import TaskError


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


def rows(values: NDArray[np.generic], count: int, task: str, width: int | None = None) -> NDArray[np.float32]:
    """Return `values` as N×K float32 for N = `count` images.

    Raises:
        TaskError: N or K (when `width` says what it must be) is another, or a value is not finite.
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
            "say with `activation` what makes probabilities of it",
        )
    return values
