"""Which layers lose most by quantisation, from the errors at the network's outputs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


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


def by_error(errors: Mapping[str, float]) -> list[str]:
    """Layers by the error that is left without them, least first: the first spoils most; ties in their order."""
    return sorted(errors, key=lambda name: errors[name])
