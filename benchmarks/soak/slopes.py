"""Whether a figure that is sampled over hours grows. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WARM = 0.25
"""The first part of the samples, in which caches fill and Python's arenas grow, is left out of the slope."""


@dataclass(frozen=True)
class Trend:
    """A figure over time."""

    first: float
    """Median of the first tenth behind the warm part."""
    last: float
    """Median of the last tenth."""
    per_hour: float
    """Slope by Theil and Sen: the median of the slopes between all pairs; a few outliers do not move it."""

    def grows(self, allowed: float) -> bool:
        """Whether it ends more than `allowed` above its start, and climbs as steadily."""
        return self.last - self.first > allowed and self.per_hour > 0


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Return the trend of `values` at `times`, s, ascending. Raises ValueError: there are fewer than 8."""
    if len(times) != len(values) or len(times) < 8:
        raise ValueError(f"{len(times)} times and {len(values)} values: give 8 or more of each")
    start = int(WARM * len(times))
    at, found = times[start:], values[start:]
    step = max(1, len(at) // 200)  # 20,000 pairs are enough
    at, found = at[::step], found[::step]
    slopes = [
        (found[j] - found[i]) / (at[j] - at[i]) for i in range(len(at)) for j in range(i + 1, len(at)) if at[j] > at[i]
    ]
    tenth = max(1, len(found) // 10)
    slope = statistics.median(slopes) if slopes else 0.0
    return Trend(statistics.median(found[:tenth]), statistics.median(found[-tenth:]), 3600 * slope)


ALLOWED: Mapping[str, tuple[float, float]] = {
    "rss_mib": (0.05, 8.0),
    "fds": (0.0, 4.0),
    "threads": (0.0, 2.0),
    "shm_mib": (0.0, 1.0),
    "store_mib": (0.05, 4.0),
    "kv_kib": (0.05, 64.0),
    "objects": (0.0, 18.0),
}
"""By figure: part of its start, and addition, by which it may end higher. Networks without use wait for an hour."""


def allowed(figure: str, first: float) -> float:
    """By how much a figure may end above its start."""
    part, more = ALLOWED[figure]
    return part * first + more
