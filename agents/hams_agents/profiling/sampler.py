"""Decides when a duration was measured often enough. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SamplerLimits:
    """When a measurement is good enough, and when it ends anyway."""

    warm_up_runs: int = 3
    warm_up_s: float = 0.05
    """Warming up takes this many runs and this long, s."""
    min_runs: int = 20
    min_s: float = 0.3
    """A shorter measurement is never called stable: it would see one moment of the host only."""
    max_s: float = 3.0
    """Time limit of measuring, s; `few_runs` are made even so."""
    few_runs: int = 3
    precision: float = 0.02
    """Relative uncertainty of the median that is good enough."""


@dataclass
class Sampler:
    """Takes the durations of runs, one after another, and decides when to stop. Pure.

    The median counts as known when the 95 % confidence interval of the median (by order statistics, no
    assumption about the distribution) is within ``precision`` to either side, and the medians of the first
    and the second half agree as well: the former detects noise, the latter drift, such as a processor that is
    still heating up.
    """

    limits: SamplerLimits = field(default_factory=SamplerLimits)
    durations: list[float] = field(default_factory=list)
    """Timed runs, s."""
    stable: bool = False
    done: bool = False
    _warm_runs: int = 0
    _warm_s: float = 0.0
    _total_s: float = 0.0
    _check_at: int = 0

    def add(self, seconds: float) -> bool:
        """Take one more duration, s; return whether that was the last one needed."""
        if self._warm_runs < self.limits.warm_up_runs or self._warm_s < self.limits.warm_up_s:
            self._warm_runs += 1
            self._warm_s += seconds
            return False
        self.durations.append(seconds)
        self._total_s += seconds
        self._check_at = max(self._check_at, self.limits.min_runs)
        if len(self.durations) >= self._check_at and self._total_s >= self.limits.min_s:
            self._check_at = math.ceil(len(self.durations) * 1.1)  # sorting each time would take longer than running
            self.stable = self._is_stable()
        over_time = self._total_s >= self.limits.max_s and len(self.durations) >= self.limits.few_runs
        self.done = self.stable or over_time
        return self.done

    def _is_stable(self) -> bool:
        low, middle, high = median_interval(self.durations)
        half = len(self.durations) // 2
        drift = abs(quantile(self.durations[:half], 0.5) - quantile(self.durations[half:], 0.5))
        return max(high - middle, middle - low, drift) <= self.limits.precision * middle


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0..1) of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(max(math.ceil(share * len(ordered)) - 1, 0), len(ordered) - 1)]


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower bound, median and upper bound: 95 % confidence by order statistics.

    The ranks are ``n/2 ± 0.98 √n``: the number of values below the true median is binomial (n, 1/2).
    """
    ordered = sorted(values)
    count = len(ordered)
    spread = 0.98 * math.sqrt(count)
    low = max(math.floor(count / 2 - spread), 0)
    high = min(math.ceil(count / 2 + spread), count - 1)
    return ordered[low], quantile(ordered, 0.5), ordered[high]
