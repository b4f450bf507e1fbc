"""Puts the outputs of several runs of a network together: their lengths may depend on the image (boxes kept)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def concatenated(outputs: Sequence[Array]) -> Array:
    """Put outputs together along their first axis, images; of unlike lengths, filled with zeros up to the longest."""
    if len(outputs) == 1:
        return outputs[0]
    if len({output.shape[1:] for output in outputs}) == 1:
        return np.concatenate(outputs)
    longest = np.max([output.shape[1:] for output in outputs], axis=0)
    joined = np.zeros((sum(map(len, outputs)), *longest), outputs[0].dtype)
    first = 0
    for output in outputs:
        joined[(slice(first, first + len(output)), *map(slice, output.shape[1:]))] = output
        first += len(output)
    return joined


def stacked(outputs: Sequence[Array]) -> Array:
    """Stack outputs of unlike lengths along a new first axis, filled with zeros."""
    return concatenated([output[np.newaxis] for output in outputs])
