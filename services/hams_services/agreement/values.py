"""Single values against each other: texts, vectors, points, numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RANGES = {"years": 80.0, "degrees": 90.0}
"""The error that counts as completely wrong, by unit."""
ANGLES = frozenset({"yaw", "pitch", "roll"})


def edit_distance(first: str, second: str) -> int:
    """Return the fewest insertions, deletions and replacements from one text to the other (Levenshtein 1966)."""
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (one != other))
    return row[-1]


def text_error(first: str, second: str) -> float:
    """Return the edit distance over the longer length, 0…1; 0 for two empty texts."""
    longest = max(len(first), len(second))
    return edit_distance(first, second) / longest if longest else 0.0


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the cosine of two vectors; 1 for two of length 0, 0 for one, or for unequal dimensions."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        return 0.0
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not all(lengths):
        return float(not any(lengths))
    return float(np.clip((a / lengths[0]) @ (b / lengths[1]), -1.0, 1.0))


def point_error(reference: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> float:
    """Return the mean distance of points over the square root of the area of `reference`; 1 for unequal counts."""
    a, b = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    if a.shape != b.shape or not a.size:
        return 0.0 if a.shape == b.shape else 1.0
    width, height = (a.max(axis=0) - a.min(axis=0))[:2]
    size = math.sqrt(max(width, 1e-6) * max(height, 1e-6))
    return float(np.linalg.norm(a - b, axis=1).mean() / size)


def angle_error(first: float, second: float) -> float:
    """Return the smaller angle between two, degrees."""
    turn = abs(first - second) % 360.0
    return min(turn, 360.0 - turn)


def full_range(unit: str | None, reference: NDArray[np.float64]) -> float:
    """Return what an error of 1 means for numbers: by unit, else the spread of `reference`, else their size."""
    if unit in RANGES:
        return RANGES[unit]
    spread = float(np.ptp(reference)) if reference.size else 0.0
    return spread or float(np.abs(reference).max(initial=0.0)) or 1.0
