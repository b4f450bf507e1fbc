"""Lines through samples, of NumPy's arrays and of PyTorch's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_services.optimizer.least_squares import line, mean


@pytest.mark.parametrize("tensors", [False, pytest.param(True, marks=pytest.mark.train)])
def test_factor_and_offset_are_found_where_it_counts(tensors: bool) -> None:
    def made(values: np.ndarray) -> Any:
        if not tensors:
            return values
        import torch

        return torch.from_numpy(values)

    given = np.random.default_rng(0).random((3, 2, 8, 8), np.float32)
    weight = (given[:, :1] > 0.5).astype(np.float32)
    wanted = np.where(weight > 0, given * 3 + 2, np.float32(99.0))
    factor, offset = line(made(given), made(wanted), made(weight), (0, 2, 3))
    assert factor.shape == offset.shape == (1, 2, 1, 1)
    assert factor.flatten().tolist() == pytest.approx([3, 3], abs=1e-3)
    assert offset.flatten().tolist() == pytest.approx([2, 2], abs=1e-3)
    average = ((wanted * weight).sum((0, 2, 3)) / weight.sum()).tolist()
    assert mean(made(wanted), made(weight), (0, 2, 3)).flatten().tolist() == pytest.approx(average)
    factor, offset = line(made(np.ones_like(given)), made(wanted), made(weight), (0, 2, 3))  # nothing to be found
    assert (factor.flatten().tolist(), offset.flatten().tolist()) == ([0, 0], pytest.approx(average))
    factor, _ = line(made(np.ones_like(given)), made(wanted), made(weight), (0, 2, 3), usual=1.0)
    assert factor.flatten().tolist() == pytest.approx([1, 1])
    factor, _ = line(made(given), made(wanted), 1.0, (0,), usual=1.0, damping=1e9)
    assert factor.flatten().tolist() == pytest.approx([1] * 128, abs=1e-3)


def test_no_weight_at_all_gives_zero() -> None:
    assert mean(np.ones((2, 3)), np.zeros((2, 3)), (0,)).tolist() == [[0, 0, 0]]
