"""Channels by what is missed without them: against least squares done directly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hams_services.optimizer.passes.filter_pruning.saliency import (
    DAMPING,
    SCARCE,
    SMALLEST,
    STEP,
    Elimination,
    Layer,
    Loss,
    allocate,
    eliminate,
    left,
    refit,
)
from support.examples import examples


def data(channels: int, size: int, seed: int, rows: int = 3, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """What a reader takes, with a constant 1 last: columns × samples; and its weights, the bias last."""
    random = np.random.default_rng(seed)
    mixture = np.eye(channels * size) + random.normal(size=(channels * size,) * 2) / (2 * channels * size) ** 0.5
    mixed = mixture @ random.normal(size=(channels * size, count))
    taken = np.concatenate([mixed + random.normal(size=(channels * size, 1)), np.ones((1, count))])
    return taken, random.normal(size=(rows, channels * size + 1)) * random.uniform(0.1, 3, (1, channels * size + 1))


def wavering(taken: np.ndarray) -> np.ndarray:
    """The same, and further samples in which each column varies by itself: so much are its weights held back."""
    count, samples = len(taken) - 1, taken.shape[1]
    share = max(DAMPING, SCARCE * count / samples)
    alone = (share * np.square(taken[:-1]).sum(1).mean()) ** 0.5 * np.eye(count)
    return np.concatenate([taken, np.concatenate([alone, np.zeros((1, count))])], axis=1)


def error_without(gone: list[int], taken: np.ndarray, weight: np.ndarray, size: int) -> float:
    """The least squared error when the channels `gone` are not read."""
    wanted = weight @ taken
    kept = [c for c in range((len(taken) - 1) // size) if c not in gone]
    columns = [c * size + k for c in kept for k in range(size)] + [len(taken) - 1]
    found = np.linalg.lstsq(taken[columns].T, wanted.T, rcond=None)[0]
    return float(np.square(found.T @ taken[columns] - wanted).sum())


@examples(30)
@example(10, 4, 101)
@given(st.integers(SMALLEST + 1, 14), st.sampled_from([1, 4]), st.integers(0, 1000))
def test_each_step_takes_what_is_missed_least(channels: int, size: int, seed: int) -> None:
    taken, weight = data(channels, size, seed, count=100)
    found = eliminate(taken @ taken.T, weight, size)
    assert len(found.order) == channels - SMALLEST == len(found.error) - 1
    assert sorted(set(found.order.tolist())) == sorted(found.order.tolist())
    taken = wavering(taken)
    gone: list[int] = []
    for channel, error in zip(found.order.tolist(), found.error[1:], strict=True):
        least = min(error_without([*gone, c], taken, weight, size) for c in range(channels) if c not in gone)
        gone.append(channel)
        truth = error_without(gone, taken, weight, size)
        assert truth == pytest.approx(least, rel=1e-6)
        assert error == pytest.approx(truth, rel=1e-6)


def test_many_eliminations_stay_exact() -> None:
    """What is gone is dropped from the matrices on the way."""
    taken, weight = data(150, 1, 5, rows=8, count=1000)
    found = eliminate(taken @ taken.T, weight)
    assert len(set(found.order.tolist())) == 142
    assert (np.diff(found.error) >= 0).all()
    for count in (1, 64, 65, 130, 142):
        truth = error_without(found.order[:count].tolist(), wavering(taken), weight, 1)
        assert found.error[count] == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("size", [1, 4])
def test_what_is_left_is_fitted_by_least_squares(size: int) -> None:
    taken, weight = data(12, size, 3)
    kept = np.array([0, 2, 3, 7, 11])
    found = refit(taken @ taken.T, weight, kept, size)
    columns = [c * size + k for c in kept for k in range(size)] + [len(taken) - 1]
    error = float(np.square(found @ taken[columns] - weight @ taken).sum())
    assert error == pytest.approx(error_without([c for c in range(12) if c not in kept], taken, weight, size), rel=1e-3)


def test_copies_cost_nothing() -> None:
    taken, weight = data(16, 1, 1)
    taken[8:16] = 2 * taken[:8]
    found = eliminate(taken @ taken.T, weight)
    assert len({channel % 8 for channel in found.order.tolist()}) == 8  # one of each two
    assert found.error[-1] < 1e-3 * np.square(weight @ taken).sum()


def elimination(channels: int, each: float) -> Elimination:
    """Every channel adds `each` more than the one before."""
    return Elimination(np.arange(channels - SMALLEST), each * np.arange(channels - SMALLEST + 1.0) ** 2)


def losses(*factors: float) -> list[Loss]:
    """What the outputs lose per error, however many channels have gone."""
    return [Loss(np.array([1]), np.array([factor])) for factor in factors]


def test_what_outputs_lose_is_between_what_was_measured() -> None:
    loss = Loss(np.array([10, 20]), np.array([1.0, 3.0]))
    assert [loss.of(count, 2.0) for count in (0, 10, 15, 20, 50)] == [2.0, 2.0, 4.0, 6.0, 6.0]


def test_a_layer_that_spoils_much_once_half_is_gone_keeps_the_rest() -> None:
    layers = [Layer(100.0, (0,)), Layer(100.0, (1,))]
    steep = Loss(np.array([8, 16, 32, 48]), np.array([0.1, 0.1, 0.1, 50.0]))
    lost = allocate([elimination(64, 1.0)] * 2, [steep, *losses(1.0)], layers, 0.5)
    assert lost[0] <= 40
    assert lost[1] >= lost[0] - STEP


def test_where_it_costs_least_for_what_it_saves() -> None:
    layers = [Layer(100.0, (0,)), Layer(50.0, (0, 1)), Layer(100.0, (1,)), Layer(50.0, ())]
    two = [elimination(64, 1.0), elimination(64, 1.0)]
    assert allocate(two, losses(1.0, 1.0), layers, 1.0) == [0, 0]
    assert allocate(two, losses(1.0, 9.0), layers, 0.9) == [16, 0]
    assert allocate(two, losses(9.0, 1.0), layers, 0.9) == [0, 16]
    even = allocate(two, losses(1.0, 1.0), layers, 0.6)
    assert abs(even[0] - even[1]) <= STEP
    assert left(layers, [64, 64], even) <= 0.6
    most = allocate(two, losses(1.0, 1.0), layers, 0.0)  # no more than can go
    assert most == [56, 56]
    assert left(layers, [64, 64], most) == pytest.approx((12.5 + 50 / 64 + 12.5 + 50) / 300)
    assert allocate([elimination(32, 1.0)], losses(1.0), [Layer(1.0, (0,))], 0.9) == [STEP // 2]
