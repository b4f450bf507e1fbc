"""Maps of chances among a network's outputs: where in the image something is. Pure."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

SELDOM = 0.1
"""A map of chances is one whose mean is below this."""


def is_heat(values: NDArray[Any]) -> bool:
    """Whether a map, of any number of images, holds chances, mostly none."""
    return bool(values.min() >= 0 and values.max() <= 1 and values.mean() < SELDOM)
