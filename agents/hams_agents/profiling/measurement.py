"""Measures a loaded network on its device, one short step after another.

Single images are timed alone first; then as many at a time as the device has lanes, fewer of them, and batches. Images
are random noise (f32 in 0..1, u8 in 0..255), and further inputs have the examples of their specs: convolutions take the
same time whatever they see. Networks that suppress overlapping boxes inside their graph are somewhat slower on a crowd
than on noise. Clocks are arguments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hams_agents.backends.base import Further, ModelFile, Network
from hams_agents.backends.further import examples
from hams_agents.backends.network import MAX_BATCH, noise
from hams_agents.tasks.input import prepare
from hams_shared.group.node_spec import InputSpec
from hams_shared.wire.messages.agents import ProfilePoint

TURN_S = 0.1
"""How long one network is measured before it is the other's turn, s, where two are."""
BURST_S, BURSTS = 0.05, 6
"""All lanes are kept busy for about this long at a time, s, and at least so many times; fewer, for half as long."""
SLOW_S = 1.0
"""Lanes compute two images each per burst, and one where an image alone takes so long: a step is watched for hangs."""
FEWER_GAIN = 0.1
"""A network is served with fewer lanes than the device has where that gives so much more throughput, as a share."""
ROUNDS = 5
"""All lanes and fewer are compared in so many bursts of each, in turns, before fewer are chosen."""


@dataclass(frozen=True)
class ModelProfile:
    """One measurement of a model alone on a device."""

    fps: float
    """Single images/s, with as many inferences at a time as are best; on a device of one lane 1 / median."""
    p50_ms: float
    """Of one image alone on the device."""
    p99_ms: float
    load_ms: float
    memory_mib: float
    runs: int
    """Timed runs, without those to warm up."""
    stable: bool
    """Whether the median was known well enough before the time limit."""
    fps_batch: float = 0.0
    """Images/s in batches, of the better size; 0: the network takes one at a time."""
    baseline_fps: float = 0.0
    """Images/s of the network that was measured in turns with it; 0: there was none."""
    lanes: int = 1
    """Inferences at a time that give `fps`: fewer than the device has lanes where more are slower."""
    lane_ms: float = 0.0
    """Time of each of several inferences at a time, with its input, mean; 0: `lanes` is 1."""
    curve: tuple[ProfilePoint, ...] = ()
    """All that was measured, by lanes and batch; the device's lanes with one image each come first."""
    cpu_ms: float = 0.0
    """CPU time of this process per image at that rate, its input included."""


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


def profile_steps(
    network: Network,
    model: ModelFile,
    clock: Callable[[], float] = time.monotonic,
    limits: SamplerLimits | None = None,
    baseline: tuple[Network, ModelFile] | None = None,
    lanes: int = 1,
    cpu: Callable[[], float] = time.process_time,
) -> Iterator[ModelProfile | None]:
    """Measure `network`, one run or burst per step: yields None after each, and last the profile.

    With a `baseline`, the two networks take turns: a processor's speed changes within minutes (heat, other processes),
    so only what was measured in the same moments can be compared. `cpu` is the CPU time of this process, s.

    Raises:
        ModelError: a network fails.
    """
    limits = limits or SamplerLimits()
    turns = [_Turn(*pair, clock, Sampler(limits)) for pair in ((network, model), baseline) if pair is not None]
    rounds = yield from _in_turns(turns)
    single = turns[0].sampler
    median = max(quantile(single.durations, 0.5), 1e-9)
    curve = _Curve(network, model, clock, cpu, limits, lanes, median)
    best = yield from curve.measure()
    fps = best.point().fps
    yield ModelProfile(
        fps=fps,
        p50_ms=median * 1e3,
        p99_ms=quantile(single.durations, 0.99) * 1e3,
        load_ms=network.load_ms,
        memory_mib=network.memory_mib,
        runs=len(single.durations),
        stable=single.stable and (lanes == 1 or best.sampler.stable),
        fps_batch=max((point.fps for point in curve.points if point.batch > 1), default=0.0),
        baseline_fps=_times_as_long(rounds) * fps if baseline is not None else 0.0,
        lanes=best.lanes,
        lane_ms=best.point().ms if best.lanes > 1 else 0.0,
        curve=curve.points,
        cpu_ms=best.cpu_ms,
    )


def _in_turns(turns: Sequence[_Turn]) -> Generator[None, None, list[list[float]]]:
    """Measure until each is known well enough; return the median durations of each round, s."""
    rounds: list[list[float]] = []
    while not all(turn.sampler.done for turn in turns):
        rounds.append([])
        for turn in turns:
            rounds[-1].append((yield from turn.take(alone=len(turns) == 1)))
    return rounds


class _Turn:
    """One of the networks that are measured in turns."""

    def __init__(self, network: Network, model: ModelFile, clock: Callable[[], float], sampler: Sampler) -> None:
        self.sampler = sampler
        self._network = network
        self._image, self._further = noise(model, 1), examples(model, 1)
        self._clock = clock
        self._slow = False
        """One run takes a whole turn, so that it fills the caches in a small part of its time."""

    def take(self, *, alone: bool) -> Generator[None, None, float]:
        """Run for a turn; return the median duration, s."""
        if not alone and not self._slow:  # the other network's weights are in the caches
            _timed(self._network, self._image, self._further, self._clock)
            yield None
        spent = 0.0
        durations: list[float] = []
        while spent < TURN_S:
            seconds = _timed(self._network, self._image, self._further, self._clock)
            spent += max(seconds, 1e-9)
            durations.append(seconds)
            self._slow = self._slow or seconds >= TURN_S
            self.sampler.add(seconds)
            yield None
            if self.sampler.done and alone:
                break
        return max(quantile(durations, 0.5), 1e-9)


class _Way:
    """One way to run a network: so many inferences at a time of so many images each."""

    def __init__(self, curve: _Curve, lanes: int, batch: int) -> None:
        self.lanes = lanes
        self._curve = curve
        several, limits = curve.lanes > 1, curve.limits
        self._every = every = several and batch == 1 and lanes == curve.lanes
        self._images, self._further = noise(curve.model, batch), examples(curve.model, batch)
        self._prepare = _preparation(curve.model, batch) if several or batch == 1 else lambda: None
        least = 2 if every and curve.alone_s < SLOW_S else 1
        burst_s = BURST_S if every else BURST_S / 2
        self._each = max(least, math.ceil(burst_s / curve.alone_s / lanes / batch))
        self._count = lanes * self._each * batch
        self._batch = batch
        self._cpu_s: list[float] = []
        brief = SamplerLimits(int(batch > 1), 0.0, limits.few_runs, limits.min_s / 3, limits.max_s / 6, 1, 0.05)
        least_s = BURSTS * BURST_S
        full = SamplerLimits(1, 0.0, BURSTS, least_s, limits.max_s, limits.few_runs, limits.precision)
        self.sampler = Sampler(full if every else brief)

    @property
    def cpu_ms(self) -> float:
        """CPU time per image, its input included, ms."""
        return quantile(self._cpu_s, 0.5) / self._count * 1e3

    def point(self) -> ProfilePoint:
        """Return what the bursts so far give."""
        curve = self._curve
        if curve.lanes == self._batch == 1:  # threads beside the lane prepare inputs: that costs CPU time only
            return ProfilePoint(fps=1 / curve.alone_s, ms=curve.alone_s * 1e3)
        seconds = max(quantile(self.sampler.durations, 0.5), 1e-9)
        fps, ms = self._count / seconds, seconds / self._each * 1e3
        return ProfilePoint(lanes=self.lanes, batch=self._batch, fps=fps, ms=ms)

    def measure(self, pool: ThreadPoolExecutor) -> Generator[None, None, None]:
        """Make bursts until the throughput is known: well for all lanes, roughly otherwise."""
        while not self.sampler.done:
            self.sampler.add(self.burst(pool))
            yield None

    def burst(self, pool: ThreadPoolExecutor) -> float:
        """Keep the lanes busy for a while; return how long, s. Several lanes prepare their inputs, as in serving."""
        start, cpu_start = self._curve.clock(), self._curve.cpu()
        if self.lanes == 1:
            self._run()
        else:
            for done in [pool.submit(self._run) for _ in range(self.lanes)]:
                done.result()
        self._cpu_s.append(self._curve.cpu() - cpu_start)
        return self._curve.clock() - start

    def image_s(self, pool: ThreadPoolExecutor) -> float:
        """Make one burst; return its time per image, s."""
        return max(self.burst(pool), 1e-9) / self._count

    def _run(self) -> None:
        for _ in range(self._each):
            self._prepare()
            self._curve.network.infer(self._images, further=self._further, alone=self.lanes == 1)


@dataclass
class _Curve:
    """Measures a network by lanes and batch; `alone_s` is the time of one image alone."""

    network: Network
    model: ModelFile
    clock: Callable[[], float]
    cpu: Callable[[], float]
    limits: SamplerLimits
    lanes: int
    alone_s: float
    points: tuple[ProfilePoint, ...] = ()

    def measure(self) -> Generator[None, None, _Way]:
        """Measure all `points`; return how single images are served best: with all lanes, or with fewer where these
        are faster by `FEWER_GAIN`."""
        batches = (MAX_BATCH // 2, MAX_BATCH) if self.network.dynamic_batch else ()
        fewer = [2**n for n in range(self.lanes.bit_length()) if 2**n < self.lanes]
        every, *others = (_Way(self, lanes, 1) for lanes in (self.lanes, *fewer))
        ways = [every, *others, *(_Way(self, self.lanes, batch) for batch in batches)]
        with ThreadPoolExecutor(self.lanes, thread_name_prefix="measure") as pool:
            for way in ways:
                yield from way.measure(pool)
            self.points = tuple(way.point() for way in ways)
            best = max(others, key=lambda way: way.point().fps, default=every)
            if best.point().fps <= (1 + FEWER_GAIN) * every.point().fps:
                return every
            ratios = []
            for _ in range(ROUNDS):  # what is measured later may be faster for that reason alone
                ratios.append(every.image_s(pool))
                yield None
                ratios[-1] /= best.image_s(pool)
                yield None
        return best if quantile(ratios, 0.5) > 1 + FEWER_GAIN else every


def _preparation(model: ModelFile, batch: int) -> Callable[[], object]:
    """Return what prepares an input of `batch` frames of 640×480; nothing, where the network takes no images.

    What it gives is not used: emulated devices know the images of noise that measuring takes.
    """
    shape = model.input_shape
    if len(shape) != 4 or not ({shape[1], shape[3]} & {1, 3}) or min(sorted(shape[1:])[1:]) < 8:
        return lambda: None
    layout: Literal["nchw", "nhwc"] = "nchw" if shape[1] in (1, 3) else "nhwc"
    channels, height, width = shape[1:] if layout == "nchw" else (shape[3], shape[1], shape[2])
    color: Literal["gray", "rgb"] = "gray" if channels == 1 else "rgb"
    dtype: Literal["u8", "f32"] = "u8" if model.dtype == "u8" else "f32"
    spec = InputSpec(size=(width, height), color=color, layout=layout, dtype=dtype)
    frames = [np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)] * batch
    return lambda: prepare(frames, spec)


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


def _timed(network: Network, batch: object, further: Further, clock: Callable[[], float]) -> float:
    start = clock()
    network.infer(batch, further=further)  # type: ignore[arg-type]
    return clock() - start
