"""Straight lines through samples, by least squares. For NumPy's arrays as for PyTorch's tensors."""

from __future__ import annotations

from typing import Any


def mean(values: Any, weight: Any, axes: tuple[int, ...]) -> Any:
    """Return the weighted mean of `values` over `axes`, which stay with length 1."""
    total = (weight + 0 * values).sum(axes, keepdims=True)
    return (values * weight).sum(axes, keepdims=True) / (total + 1e-12)


def line(x: Any, y: Any, weight: Any, axes: tuple[int, ...], usual: float = 0.0, damping: float = 0.0) -> Any:
    """Return factor and offset, over `axes`, that bring `x` nearest to `y`.

    Where `x` varies little, compared with a share `damping` of its mean variance, the factor is near to `usual`.
    """
    low, high = mean(x, weight, axes), mean(y, weight, axes)
    spread = mean((x - low) ** 2, weight, axes)
    little = damping * spread.mean() + 1e-12
    factor = (mean((x - low) * (y - high), weight, axes) + usual * little) / (spread + little)
    return factor, high - factor * low
