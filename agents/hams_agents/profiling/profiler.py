"""Measures one loaded network alone: how fast, how steady. When enough has been measured is decided purely.

Speed is that of single images in random noise (f32 in 0..1, u8 in 0..255): convolutions take the same time
whatever they see. Networks that suppress overlapping boxes inside their graph are somewhat slower on a crowd
than on noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hams_agents.backends.base import ModelFile, Network
from hams_agents.backends.batching import MAX_BATCH, noise

TURN_S = 0.1
"""How long one network is measured before it is the other's turn, s, where two are."""


@dataclass(frozen=True)
class ModelProfile:
    """One measurement of a model alone on a device."""

    fps: float
    """Images/s, one at a time: 1 / median."""
    p50_ms: float
    p99_ms: float
    load_ms: float
    memory_mib: float
    runs: int
    """Timed runs, without those to warm up."""
    stable: bool
    """Whether the median was known well enough before the time limit."""
    fps_batch: float = 0.0
    """Images/s in batches of ``MAX_BATCH``; 0: the network takes one at a time."""
    beside_fps: float = 0.0
    """Images/s, one at a time, of the network that was measured in turns with it; 0: there was none."""


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
    """Takes the durations of runs, one after another, and says when to stop. Pure.

    The median counts as known when the 95 % confidence interval of the median (by order statistics, no
    assumption about the distribution) is within ``precision`` to either side, and the medians of the first
    and the second half agree as well: the former tells noise, the latter drift, such as a processor that is
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


def profile_steps(
    network: Network,
    model: ModelFile,
    clock: Callable[[], float] = time.monotonic,
    limits: SamplerLimits | None = None,
    beside: tuple[Network, ModelFile] | None = None,
) -> Iterator[ModelProfile | None]:
    """Measure `network`, one run per step: yields None after each, and last the profile.

    What is `beside` it is measured in turns with it: a processor's speed changes within minutes (heat, neighbours), and
    two networks are compared only by what was measured in the same moments.

    Raises:
        ModelError: a network fails.
    """
    limits = limits or SamplerLimits()
    single = Sampler(limits)
    turns = [(network, noise(model, 1), single)]
    if beside is not None:
        turns.append((beside[0], noise(beside[1], 1), Sampler(limits)))
    slow: set[int] = set()
    rounds: list[list[float]] = []
    while not all(sampler.done for _, _, sampler in turns):
        rounds.append([])
        for index, (one, image, sampler) in enumerate(turns):
            if len(turns) > 1 and index not in slow:  # the other one's weights are in the caches
                _timed(one, image, clock)
                yield None
            spent, durations = 0.0, []
            while spent < TURN_S:
                seconds = _timed(one, image, clock)
                spent += max(seconds, 1e-9)
                durations.append(seconds)
                if seconds >= TURN_S:  # it fills the caches in a small part of its time
                    slow.add(index)
                sampler.add(seconds)
                yield None
                if sampler.done and len(turns) == 1:
                    break
            rounds[-1].append(max(quantile(durations, 0.5), 1e-9))
    fps_batch = 0.0
    if network.dynamic_batch:
        images = noise(model, MAX_BATCH)
        # The batch's speed is told beside, it decides less: one run to warm up, then few and short.
        batch = Sampler(
            SamplerLimits(1, 0.0, limits.few_runs, limits.min_s / 2, limits.max_s / 6, limits.few_runs, 0.05)
        )
        while not batch.done:
            batch.add(_timed(network, images, clock))
            yield None
        fps_batch = MAX_BATCH / max(quantile(batch.durations, 0.5), 1e-9)
    median = max(quantile(single.durations, 0.5), 1e-9)
    yield ModelProfile(
        fps=1 / median,
        p50_ms=median * 1e3,
        p99_ms=quantile(single.durations, 0.99) * 1e3,
        load_ms=network.load_ms,
        memory_mib=network.memory_mib,
        runs=len(single.durations),
        stable=single.stable,
        fps_batch=fps_batch,
        beside_fps=_times_as_long(rounds) / median if beside is not None else 0.0,
    )


def _times_as_long(rounds: Sequence[Sequence[float]]) -> float:
    """How many times as long the first of two networks takes as the second: within each round, since rounds differ."""
    return quantile([first / second for first, second in rounds[1:] or rounds], 0.5)  # the first round warms up


def profile(
    network: Network,
    model: ModelFile,
    clock: Callable[[], float] = time.perf_counter,
    limits: SamplerLimits | None = None,
) -> ModelProfile:
    """Measure `network` in one go; see :func:`profile_steps`."""
    return next(step for step in profile_steps(network, model, clock, limits) if step is not None)


def _timed(network: Network, batch: object, clock: Callable[[], float]) -> float:
    start = clock()
    network.infer(batch)  # type: ignore[arg-type]
    return clock() - start
