"""How many pixels of applications' images may be under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hams_shared.errors import OverloadedError

MAX_PIXELS_UNDER_WAY = 1 << 27
"""Most pixels of applications' images under way, 403 MB as B, G, R; a single image is taken whatever its size."""


class PixelBudget:
    """Counts the pixels of images from before they are decoded until their answer."""

    def __init__(self, limit: int = MAX_PIXELS_UNDER_WAY) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def taken(self, width: int, height: int) -> Iterator[None]:
        """Hold width × height pixels during the block. Raises OverloadedError: too many are under way."""
        pixels = width * height
        if self._taken and self._taken + pixels > self._limit:
            raise OverloadedError(
                f"images of {self._taken / 1e6:.0f} million pixels are under way already", "send one after another"
            )
        self._taken += pixels
        try:
            yield
        finally:
            self._taken -= pixels
