"""One cell of the FPS matrix: loads a model, measures it alone, and returns a record, also when it cannot run.

:class:`Sampler` decides purely when enough has been measured. Speed is that of single images of random noise (f32 in
0..1, u8 in 0..255): convolutions take the same time whatever they see. Networks that suppress overlapping boxes inside
their graph are somewhat slower on a crowd than on noise.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import Backend, ModelFile, Network, noise
from hams_agents.backends.batching import MAX_BATCH
from hams_agents.backends.replay import left_out
from hams_agents.cpus import here
from hams_agents.profiling.cpu_use import cpu_use, used_by_others
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.hangs import Progress
from hams_agents.runtime.loaded import load
from hams_agents.tasks.input import prepare
from hams_shared.errors import ModelError
from hams_shared.group.spec import InputSpec
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord

log = logging.getLogger("hams.agent")

TURN_S = 0.1
"""How long one network is measured before it is the other's turn, s, where two are."""
BURST_S, BURSTS = 0.05, 6
"""All lanes are kept busy for about this long at a time, s, and at least so many times."""


@dataclass(frozen=True)
class Profiler:
    """Measures models on one device; loading runs in `loader`, measuring in the device's thread."""

    backend: Backend
    device: DeviceRecord
    loader: ThreadPoolExecutor
    loading: Progress
    executor: Executor

    async def measure(self, model: ModelFile, baseline: ModelFile | None = None) -> ProfileRecord:
        """Load `model` next to what is served, measure it, in turns with `baseline` if given, and drop both.

        A model that this device cannot run gives a record with ``reason`` and no number.
        """
        record = ProfileRecord(
            digest=model.digest,
            model_name=model.name,
            input_shape=model.input_shape,
            fingerprint=self.device.fingerprint,
            runtime=self.device.runtime,
            precision=self.device.precisions[0],
            measured_on=self.device.device,
            measured_at=time.time(),
        )
        try:
            network = await self._load(model)
            try:
                return record.model_copy(update=await self._measured(network, model, baseline))
            finally:
                network.close()
        except ModelError as error:
            return record.model_copy(update={"reason": error.text})

    async def _measured(self, network: Network, model: ModelFile, baseline: ModelFile | None) -> dict[str, object]:
        """Return the fields of the record that are measured."""
        other = await self._baseline(baseline)
        try:
            pair = (other, baseline) if other is not None and baseline is not None else None
            before = cpu_use()
            lanes = self.backend.capabilities.lanes
            steps = profile_steps(network, model, self.executor.clock.now, baseline=pair, lanes=lanes)
            measured = await self.executor.run_steps(steps)
            used = 0.0
            if not self.device.emulated:
                used = used_by_others(before, cpu_use(), self.device.cores or here().allowed)
        finally:
            if other is not None:
                other.close()
        return {**vars(measured), "baseline": pair[1].digest if pair is not None else "", "load": round(used, 3)}

    async def _load(self, model: ModelFile) -> Network:
        loop = asyncio.get_running_loop()
        return left_out(await loop.run_in_executor(self.loader, load, self.backend, model, self.loading))

    async def _baseline(self, model: ModelFile | None) -> Network | None:
        """Load the baseline; None where that fails: then the other is measured without."""
        try:
            return None if model is None else await self._load(model)
        except ModelError as error:
            log.warning("measured without the baseline %s: %s", model.name if model else "", error)
            return None


@dataclass(frozen=True)
class ModelProfile:
    """One measurement of a model alone on a device."""

    fps: float
    """Images/s with all lanes busy; with one lane 1 / median."""
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
    """Images/s in batches of ``MAX_BATCH``; 0: the network takes one at a time."""
    baseline_fps: float = 0.0
    """Images/s of the network that was measured in turns with it; 0: there was none."""
    lanes: int = 1
    lane_ms: float = 0.0
    """Time of one image with all lanes busy, mean; 0: there is one lane."""


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
) -> Iterator[ModelProfile | None]:
    """Measure `network`, one run per step: yields None after each, and last the profile. With several `lanes` further
    steps keep all of them busy for a while.

    With a `baseline`, the two networks take turns: a processor's speed changes within minutes (heat, other processes),
    so only what was measured in the same moments can be compared.

    Raises:
        ModelError: a network fails.
    """
    limits = limits or SamplerLimits()
    pairs = [(network, model), *([baseline] if baseline is not None else [])]
    turns = [_Turn(*pair, clock, Sampler(limits)) for pair in pairs]
    rounds = yield from _in_turns(turns)
    fps_batch = (yield from _batch_fps(network, model, clock, limits)) if network.dynamic_batch else 0.0
    single = turns[0].sampler
    median = max(quantile(single.durations, 0.5), 1e-9)
    fps, sure = 1 / median, True
    if lanes > 1:
        fps, sure = yield from _lanes_fps(network, model, clock, limits, lanes, median)
    yield ModelProfile(
        fps=fps,
        p50_ms=median * 1e3,
        p99_ms=quantile(single.durations, 0.99) * 1e3,
        load_ms=network.load_ms,
        memory_mib=network.memory_mib,
        runs=len(single.durations),
        stable=single.stable and sure,
        fps_batch=fps_batch,
        baseline_fps=_times_as_long(rounds) * fps if baseline is not None else 0.0,
        lanes=lanes,
        lane_ms=lanes / fps * 1e3 if lanes > 1 else 0.0,
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
        self._image = noise(model, 1)
        self._clock = clock
        self._slow = False
        """One run takes a whole turn, so that it fills the caches in a small part of its time."""

    def take(self, *, alone: bool) -> Generator[None, None, float]:
        """Run for a turn; return the median duration, s."""
        if not alone and not self._slow:  # the other network's weights are in the caches
            _timed(self._network, self._image, self._clock)
            yield None
        spent = 0.0
        durations: list[float] = []
        while spent < TURN_S:
            seconds = _timed(self._network, self._image, self._clock)
            spent += max(seconds, 1e-9)
            durations.append(seconds)
            self._slow = self._slow or seconds >= TURN_S
            self.sampler.add(seconds)
            yield None
            if self.sampler.done and alone:
                break
        return max(quantile(durations, 0.5), 1e-9)


def _batch_fps(
    network: Network, model: ModelFile, clock: Callable[[], float], limits: SamplerLimits
) -> Generator[None, None, float]:
    """Measure batches; they decide less, so one run warms up, then few and short ones follow. Returns images/s."""
    images = noise(model, MAX_BATCH)
    sampler = Sampler(SamplerLimits(1, 0.0, limits.few_runs, limits.min_s / 2, limits.max_s / 6, limits.few_runs, 0.05))
    while not sampler.done:
        sampler.add(_timed(network, images, clock))
        yield None
    return MAX_BATCH / max(quantile(sampler.durations, 0.5), 1e-9)


def _lanes_fps(
    network: Network, model: ModelFile, clock: Callable[[], float], limits: SamplerLimits, lanes: int, alone_s: float
) -> Generator[None, None, tuple[float, bool]]:
    """Measure with all lanes busy, one burst per step. Returns images/s, and whether they are known well enough.

    A lane also prepares the inputs, as in serving, where that takes the same cores.
    """
    make_input = _input_maker(model)
    each = max(2, math.ceil(BURST_S / alone_s / lanes))
    few, least_s = BURSTS, BURSTS * BURST_S
    sampler = Sampler(SamplerLimits(1, 0.0, few, least_s, limits.max_s, limits.few_runs, limits.precision))

    def run() -> None:
        for _ in range(each):
            network.infer(make_input(), alone=False)

    with ThreadPoolExecutor(lanes, thread_name_prefix="measure") as pool:
        while not sampler.done:
            start = clock()
            for done in [pool.submit(run) for _ in range(lanes)]:
                done.result()
            sampler.add(clock() - start)
            yield None
    return lanes * each / max(quantile(sampler.durations, 0.5), 1e-9), sampler.stable


def _input_maker(model: ModelFile) -> Callable[[], NDArray[np.generic]]:
    """Return what makes an input for `model` of a frame of 640×480; of one that takes no images, noise."""
    shape, image = model.input_shape, noise(model, 1)
    if len(shape) != 4 or not ({shape[1], shape[3]} & {1, 3}) or min(sorted(shape[1:])[1:]) < 8:
        return lambda: image
    layout: Literal["nchw", "nhwc"] = "nchw" if shape[1] in (1, 3) else "nhwc"
    channels, height, width = shape[1:] if layout == "nchw" else (shape[3], shape[1], shape[2])
    color: Literal["gray", "rgb"] = "gray" if channels == 1 else "rgb"
    dtype: Literal["u8", "f32"] = "u8" if model.dtype == "u8" else "f32"
    spec = InputSpec(size=(width, height), color=color, layout=layout, dtype=dtype)
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return lambda: prepare([frame], spec)[0]


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
