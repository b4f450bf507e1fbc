"""Declared shapes, checked before a tool believes them."""

from __future__ import annotations

from collections.abc import Iterable

from hams_shared.errors import ModelError

MAX_DIM = 1 << 24
MAX_ELEMENTS = 1 << 28
"""Of one tensor: 1 GiB of float32."""
MAX_RANK = 32


def check_dims(what: str, dims: Iterable[int]) -> int:
    """Return how many elements a tensor of shape `dims` has; unknown sizes (0 or less) count as 1.

    Raises:
        ModelError: more than any network for pictures has.
    """
    total = 1
    for rank, size in enumerate(dims):
        if rank >= MAX_RANK:
            raise ModelError(f"{what} has more than {MAX_RANK} axes")
        if size > MAX_DIM:
            raise ModelError(f"{what} has an axis of {size}, more than {MAX_DIM}")
        total *= max(size, 1)
        if total > MAX_ELEMENTS:
            raise ModelError(f"{what} has more than {MAX_ELEMENTS} elements")
    return total
