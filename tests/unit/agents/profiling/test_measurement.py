from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hams_agents.backends.base import NO_FURTHER, Further, ModelFile
from hams_agents.profiling.measurement import Sampler, SamplerLimits, median_interval, profile, profile_steps, quantile
from hams_shared.errors import ModelError

LIMITS = SamplerLimits(warm_up_runs=2, warm_up_s=0.0, min_runs=10, min_s=0.0, max_s=1.0)


def feed(sampler: Sampler, durations: list[float]) -> int:
    """Feed until done; return how many were taken."""
    for count, duration in enumerate(durations, 1):
        if sampler.add(duration):
            return count
    return len(durations)


def test_warm_up_is_not_counted() -> None:
    sampler = Sampler(LIMITS)
    feed(sampler, [9.0, 9.0, 0.01])
    assert sampler.durations == [0.01]


def test_warm_up_takes_its_time_too() -> None:
    sampler = Sampler(SamplerLimits(warm_up_runs=1, warm_up_s=0.05))
    feed(sampler, [0.02] * 5)
    assert len(sampler.durations) == 2


def test_equal_durations_are_stable_after_the_fewest_runs() -> None:
    sampler = Sampler(LIMITS)
    assert feed(sampler, [0.01] * 100) == 12
    assert sampler.stable
    assert sampler.done


def test_a_short_measurement_is_not_called_stable() -> None:
    sampler = Sampler(SamplerLimits(warm_up_runs=0, warm_up_s=0.0, min_runs=10, min_s=0.3))
    feed(sampler, [0.001] * 299)
    assert not sampler.done
    assert feed(sampler, [0.001] * 100) <= 40


def test_noise_takes_more_runs_than_quiet() -> None:
    generator = random.Random(4)
    sampler = Sampler(SamplerLimits(0, 0.0, 10, 0.0, 100.0))
    taken = feed(sampler, [0.01 * generator.uniform(0.8, 1.2) for _ in range(5000)])
    assert 100 < taken < 5000
    assert sampler.stable
    assert quantile(sampler.durations, 0.5) == pytest.approx(0.01, rel=0.03)


def test_outliers_do_not_spoil_the_median() -> None:
    sampler = Sampler(LIMITS)
    feed(sampler, ([0.01] * 9 + [0.05]) * 10)
    assert sampler.stable
    assert quantile(sampler.durations, 0.5) == 0.01


def test_drift_is_not_stable() -> None:
    sampler = Sampler(SamplerLimits(0, 0.0, 10, 0.0, 1.0))
    feed(sampler, [0.005 * 1.02**i for i in range(200)])
    assert sampler.done
    assert not sampler.stable


def test_the_time_limit_ends_an_unstable_measurement() -> None:
    sampler = Sampler(SamplerLimits(0, 0.0, 1000, 0.0, 1.0))
    assert feed(sampler, [0.01, 0.02] * 500) == pytest.approx(67, abs=1)
    assert not sampler.stable


def test_a_very_slow_network_gets_a_few_runs_nonetheless() -> None:
    sampler = Sampler(SamplerLimits(warm_up_runs=1, max_s=1.0, few_runs=3))
    assert feed(sampler, [4.0] * 20) == 4
    assert len(sampler.durations) == 3


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_quantile(share: float, value: int) -> None:
    assert quantile(list(range(100, 0, -1)), share) == value


def test_the_interval_holds_the_true_median_nearly_always() -> None:
    generator = random.Random(7)
    held = 0
    for _ in range(400):
        low, _, high = median_interval([generator.expovariate(1.0) for _ in range(60)])
        held += low <= 0.6931 <= high
    assert held >= 0.92 * 400


class Fake:
    """A network on a clock of its own: `each` seconds per image, or per batch."""

    memory_mib = 12.5
    load_ms = 34.0

    def __init__(self, each: float, dynamic_batch: bool, fail_after: int = 10**9) -> None:
        self.now = 0.0
        self.dynamic_batch = dynamic_batch
        self.sizes: list[int] = []
        self._each = each
        self._left = fail_after

    def infer(
        self, batch: np.ndarray, *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, np.ndarray]:
        self._left -= 1
        if self._left < 0:
            raise ModelError("out of memory")
        self.sizes.append(len(batch))
        self.now += self._each
        return {}

    def close(self) -> None:
        raise AssertionError("the profiler does not own the network")


MODEL = ModelFile("fake", "0" * 64, Path("fake.onnx"), (1, 3, 4, 4))


def test_profile_of_a_steady_network() -> None:
    network = Fake(0.02, dynamic_batch=False)
    measured = profile(network, MODEL, clock=lambda: network.now)
    assert measured.fps == pytest.approx(50.0)
    assert measured.p50_ms == pytest.approx(20.0)
    assert measured.p99_ms == pytest.approx(20.0)
    assert (measured.load_ms, measured.memory_mib) == (34.0, 12.5)
    assert measured.stable
    assert measured.runs >= 20
    assert measured.fps_batch == 0.0
    assert set(network.sizes) == {1}


def test_profile_of_batches() -> None:
    network = Fake(0.02, dynamic_batch=True)
    measured = profile(network, MODEL, clock=lambda: network.now)
    assert measured.fps == pytest.approx(50.0)
    assert measured.fps_batch == pytest.approx(400.0)


def test_batches_are_points_of_the_curve() -> None:
    network = Fake(0.02, dynamic_batch=True)
    measured = profile(network, MODEL, clock=lambda: network.now)
    assert [(p.lanes, p.batch) for p in measured.curve] == [(1, 1), (1, 4), (1, 8)]
    assert [p.fps for p in measured.curve] == pytest.approx([50.0, 200.0, 400.0])
    assert [p.ms for p in measured.curve] == pytest.approx([20.0] * 3)


class OfLanes(Fake):
    """A device of several lanes on a clock of its own: each inference moves it by what it takes of the whole device."""

    def __init__(self, alone: float, lane: float, slow: int = 0) -> None:
        super().__init__(alone, dynamic_batch=False)
        self._lane = lane
        self._slow = slow
        """So many of the first inferences in lanes take three times as long."""
        self._lock = threading.Lock()

    def infer(
        self, batch: np.ndarray, *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, np.ndarray]:
        if alone:
            return super().infer(batch)
        with self._lock:
            self._slow -= 1
            self.now += self._lane * (3 if self._slow >= 0 else 1)
        return {}


@pytest.mark.parametrize(
    ("alone", "lane", "lanes", "best", "fps"),
    [
        (0.010, 0.006, 4, 4, 1 / 0.006),
        (0.010, 0.012, 4, 1, 100.0),  # they take the caches from each other
        (0.010, 0.0105, 2, 2, 1 / 0.0105),  # nearly as fast: a small difference decides nothing
        (0.010, 0.006, 1, 1, 100.0),
    ],
)
def test_a_network_is_served_with_as_many_lanes_as_are_fastest(
    alone: float, lane: float, lanes: int, best: int, fps: float
) -> None:
    network = OfLanes(alone, lane)
    steps = profile_steps(network, MODEL, lambda: network.now, lanes=lanes, cpu=lambda: 2 * network.now)
    measured = next(step for step in steps if step is not None)
    assert measured.lanes == best
    assert measured.fps == pytest.approx(fps)
    assert measured.cpu_ms == pytest.approx(2e3 / fps)
    assert measured.lane_ms == pytest.approx(best * lane * 1e3 if best > 1 else 0.0)
    assert [point.lanes for point in measured.curve] == {1: [1], 2: [2, 1], 4: [4, 1, 2]}[lanes]
    assert measured.stable


def test_what_was_slow_for_a_moment_is_not_given_up() -> None:
    network = OfLanes(0.010, 0.006, slow=45)
    steps = profile_steps(network, MODEL, lambda: network.now, lanes=2)
    measured = next(step for step in steps if step is not None)
    assert measured.curve[0].fps < measured.curve[1].fps
    assert measured.lanes == 2


def test_one_run_per_step() -> None:
    network = Fake(0.02, dynamic_batch=True)
    for step in profile_steps(network, MODEL, clock=lambda: network.now):
        if step is None:
            before = len(network.sizes)
            assert before > 0
    assert step is not None
    assert len(network.sizes) < 100


class Shared:
    """The time of one processor that gets slower and slower, and back, as two networks are run on it in turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def run(self, work: float) -> None:
        self.now += work * (3.0 if 1.0 < self.now < 4.0 else 1.0)


class OnShared(Fake):
    def __init__(self, shared: Shared, each: float) -> None:
        super().__init__(each, dynamic_batch=False)
        self._shared = shared

    def infer(
        self, batch: np.ndarray, *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, np.ndarray]:
        self._shared.run(self._each)
        return super().infer(batch)


@pytest.mark.parametrize(("each", "baseline"), [(0.02, 0.01), (0.3, 0.02), (0.001, 0.1)])
def test_two_networks_in_turns_are_compared_whatever_the_processor_does(each: float, baseline: float) -> None:
    shared = Shared()
    network, other = OnShared(shared, each), OnShared(shared, baseline)
    steps = profile_steps(network, MODEL, clock=lambda: shared.now, baseline=(other, MODEL))
    measured = next(step for step in steps if step is not None)
    assert measured.baseline_fps / measured.fps == pytest.approx(each / baseline, rel=0.01)
    assert len(network.sizes) > 3
    assert len(other.sizes) > 3
    assert shared.now < 60


def test_a_network_that_fails_ends_the_profile() -> None:
    network = Fake(0.02, dynamic_batch=False, fail_after=7)
    with pytest.raises(ModelError, match="out of memory"):
        profile(network, MODEL, clock=lambda: network.now)


def test_a_clock_that_stands_still_ends_nothing_early() -> None:
    steps = profile_steps(Fake(0.0, dynamic_batch=False), MODEL, clock=lambda: 0.0)
    assert all(next(steps) is None for _ in range(500))
