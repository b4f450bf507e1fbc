"""Layers ranked by the accuracy that their quantisation costs, from the errors at the network's outputs. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FEW = 64
"""Up to so many layers are measured one by one; of more, blocks are, and the worst of those again."""
BLOCKS = 10


def relative_error(plain: Sequence[NDArray[np.floating]], coarse: Sequence[NDArray[np.floating]]) -> float:
    """Return the energy of the difference over that of `plain`: 1 / SQNR."""
    signal = sum(float(np.square(a, dtype=np.float64).sum()) for a in plain)
    noise = sum(float(np.square(np.subtract(a, b, dtype=np.float64)).sum()) for a, b in zip(plain, coarse, strict=True))
    return noise / max(signal, 1e-12)


def output_error(
    plain: Sequence[Sequence[NDArray[np.floating]]], coarse: Sequence[Sequence[NDArray[np.floating]]]
) -> float:
    """Return the sum of the outputs' relative errors; one sequence of samples per output."""
    return sum(relative_error(a, b) for a, b in zip(plain, coarse, strict=True))


def errors_without(layers: Sequence[str], error_of: Callable[[Sequence[str]], float]) -> dict[str, float]:
    """Return each layer's error: that of the outputs when all layers are quantised but it.

    `error_of` measures the error without some. Errors of layers that lie apart nearly add up, so of many layers blocks
    of adjacent ones are measured first, and the block with the largest part is halved again and again. Layers of the
    other blocks share their block's part. This takes about a third of the time of measuring one by one.
    """
    if len(layers) <= FEW:
        return {name: error_of([name]) for name in layers}
    whole, most = error_of([]), BLOCKS + len(layers) // 3
    width = -(-len(layers) // BLOCKS)
    todo = [(start, min(start + width, len(layers))) for start in range(0, len(layers), width)]
    found: dict[str, float] = {}
    heap: list[tuple[float, int, int]] = []
    measured = 0
    while todo:
        start, end = todo.pop()
        left = error_of(layers[start:end])
        measured += 1
        part = (whole - left) / (end - start)
        found |= dict.fromkeys(layers[start:end], whole - part)
        if end - start > 1:
            heapq.heappush(heap, (-(whole - left), start, end))
        if not todo and heap and measured < most:
            _, start, end = heapq.heappop(heap)
            middle = (start + end) // 2
            todo = [(start, middle), (middle, end)]
    return found


def by_error(errors: Mapping[str, float]) -> list[str]:
    """Return layers by the error that is left without them, least first; ties in their order."""
    return sorted(errors, key=lambda name: errors[name])
