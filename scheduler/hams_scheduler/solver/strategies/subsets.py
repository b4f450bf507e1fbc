"""Exact placement of few models by dynamic programming over subsets, vectorised.

Over devices d, `best[S] = min over T ⊆ S of max(best'[S - T], load_d(T))`: all 3^M pairs (S, T) at once in numpy
(Bellman 1962, Held and Karp 1962 give the principle; 177 147 pairs at 11 models). It is exact whatever the loads
are, so memory, count-dependent slowdown and a base load are simply part of `load_d(T)`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hams_scheduler.solver.instance import FloatArray, IntArray

Ints = npt.NDArray[np.integer[Any]]

MOST_MODELS = 12


@lru_cache(maxsize=MOST_MODELS + 1)
def pairs(models: int) -> tuple[Ints, Ints, Ints]:
    """Return all (T, S - T) with T ⊆ S, ordered by S, and where each S begins (3^M, 3^M, 2^M numbers)."""
    inside: Ints = np.zeros(1, dtype=np.int32)
    outside: Ints = np.zeros(1, dtype=np.int32)
    sizes: Ints = np.ones(1, dtype=np.int64)
    for bit in range(models):
        one = np.int32(1 << bit)
        inside, outside, sizes = _grow(inside, outside, sizes, one)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return inside, outside, begins


def _grow(inside: Ints, outside: Ints, sizes: Ints, one: np.int32) -> tuple[Ints, Ints, Ints]:
    """Add a model: sets without it stay in front; each set with it has its pairs twice, in T and out of T."""
    return (
        np.concatenate([inside, _interleave(inside + one, inside, sizes)]),
        np.concatenate([outside, _interleave(outside, outside + one, sizes)]),
        np.concatenate([sizes, 2 * sizes]),
    )


def _interleave(first: Ints, second: Ints, sizes: Ints) -> Ints:
    """Return, set by set, the pairs of `first` and then those of `second`."""
    begins = np.cumsum(sizes) - sizes
    where = np.arange(len(first)) + np.repeat(begins, sizes)
    merged = np.empty(2 * len(first), dtype=first.dtype)
    merged[where] = first
    merged[where + np.repeat(sizes, sizes)] = second
    return merged


def sums(values: FloatArray) -> FloatArray:
    """Return 2^M sums over all subsets of M values."""
    total = np.zeros(1)
    for value in values:
        total = np.concatenate([total, total + value])
    return total


def loads(
    cost: FloatArray,
    memory: FloatArray | None,
    room: FloatArray,
    base: FloatArray,
    slowdown: FloatArray | None = None,
) -> FloatArray:
    """Return D×2^M cycles of each subset on each device, infinite where memory or support is broken.

    `cost` and `memory` are M×D, `room` D MiB left, `base` D seconds already there (not slowed down).
    """
    rows, columns = cost.shape
    table = np.empty((columns, 1 << rows))
    count = sums(np.ones(rows)).astype(np.int64) if slowdown is not None else None
    for column in range(columns):
        table[column] = base[column] + sums(cost[:, column])
        if slowdown is not None and count is not None:
            table[column] *= slowdown[column, count]
            table[column][np.isnan(table[column])] = np.inf
        if memory is not None and np.isfinite(room[column]):
            table[column][sums(memory[:, column]) > room[column]] = np.inf
    return table


def solve(table: FloatArray, *, added: bool = False) -> tuple[float, IntArray]:
    """Return the least longest cycle and the device number of each model, from D×2^M cycles.

    With `added` the values are summed over the devices instead, and the least sum is returned. The value is infinite
    when no split is allowed; then the numbers mean nothing.
    """
    columns, sets = table.shape
    join = np.add if added else np.maximum
    models = sets.bit_length() - 1
    full = sets - 1
    best = [table[0]]
    if columns > 2:
        inside, outside, begins = pairs(models)
        for column in range(1, columns - 1):
            step = join(table[column][inside], best[-1][outside])
            best.append(np.minimum.reduceat(step, begins))
    assign = np.zeros(models, dtype=np.int64)
    remaining = full
    answer = np.inf
    for column in range(columns - 1, 0, -1):
        subsets = _subsets(remaining, models)
        length = join(table[column][subsets], best[column - 1][remaining ^ subsets])
        chosen = int(length.argmin())
        if column == columns - 1:
            answer = float(length[chosen])
        for bit in range(models):
            if subsets[chosen] >> bit & 1:
                assign[bit] = column
        remaining ^= int(subsets[chosen])
    if columns == 1:
        answer = float(table[0][full])
    return answer, assign


def _subsets(whole: int, models: int) -> IntArray:
    """Return every subset of the set `whole`."""
    found = np.zeros(1, dtype=np.int64)
    for bit in range(models):
        if whole >> bit & 1:
            found = np.concatenate([found, found | (1 << bit)])
    return found
