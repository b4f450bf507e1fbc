"""How fast one stream's frames are delivered. Pure: `now` is a monotonic time, s."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from hams_services.pipeline.buckets import LATENCY_S, Buckets
from hams_shared.wire.messages.histogram import Histogram

RECENT_S = 5.0
"""Span over which a playing stream's FPS is taken, s."""
KEPT = 2000
"""Frames whose latency is kept."""


@dataclass
class Timings:
    """Of one stream."""

    latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _all: Buckets = field(default_factory=lambda: Buckets(LATENCY_S))
    _first: float | None = None
    _last: float | None = None

    def delivered(self, latency_ms: float, now: float) -> None:
        """Take a frame."""
        self.latency_ms.append(latency_ms)
        self._all.add(latency_ms / 1e3)
        self._recent.append(now)
        self._first, self._last = self._first or now, now

    def fps(self, frames: int, now: float, *, playing: bool) -> float:
        """Return frames/s of the last seconds while it is playing, of all delivered `frames` afterwards."""
        if playing:
            recent = sum(1 for at in self._recent if now - at <= RECENT_S)
            oldest = self._recent[0] if len(self._recent) == KEPT else self._first or now
            return recent / min(RECENT_S, max(now - oldest, 0.2))
        span = (self._last or 0.0) - (self._first or 0.0)
        return (frames - 1) / span if span > 0 else 0.0

    @property
    def histogram(self) -> Histogram:
        """The latency of all frames, s."""
        return self._all.histogram

    @property
    def percentiles_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of the latency."""
        p50, p99 = np.percentile(self.latency_ms, [50, 99]) if self.latency_ms else (0.0, 0.0)
        return float(p50), float(p99)
