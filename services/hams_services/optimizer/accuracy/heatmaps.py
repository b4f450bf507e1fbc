"""Heat maps among a network's outputs: the probability that something is at a place of the image. Pure."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

SELDOM = 0.1
"""A heat map is one whose mean is below this."""


def is_heat(values: NDArray[Any]) -> bool:
    """Return whether a map, of any number of images, holds probabilities, mostly 0."""
    return bool(values.min() >= 0 and values.max() <= 1 and values.mean() < SELDOM)
