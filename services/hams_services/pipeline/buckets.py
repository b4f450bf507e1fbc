"""Counts values by their size, in constant memory and time. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from hams_shared.wire.messages.histogram import Histogram

LATENCY_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Edges for the latency of a frame, s: close together between one and ten frames of a camera of 30 FPS."""
DWELL_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Edges for the length of a stay in a zone, s."""


class Buckets:
    """Values counted in buckets of fixed `edges` (ascending); a value on an edge belongs to the bucket below it."""

    __slots__ = ("_counts", "_edges", "_sum")

    def __init__(self, edges: Iterable[float]) -> None:
        self._edges = tuple(edges)
        self._counts = [0] * (len(self._edges) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    @property
    def histogram(self) -> Histogram:
        """What was counted since the beginning."""
        return Histogram(edges=self._edges, counts=tuple(self._counts), sum=self._sum)
