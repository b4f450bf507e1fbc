"""Which layers lose most by quantisation, from the errors at their outputs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def relative_error(plain: Sequence[NDArray[np.floating]], coarse: Sequence[NDArray[np.floating]]) -> float:
    """Return the energy of the difference over that of `plain`: 1 / SQNR."""
    signal = sum(float(np.square(a, dtype=np.float64).sum()) for a in plain)
    noise = sum(float(np.square(np.subtract(a, b, dtype=np.float64)).sum()) for a, b in zip(plain, coarse, strict=True))
    return noise / max(signal, 1e-12)


def own_errors(errors: Mapping[str, float], before: Mapping[str, Sequence[str]]) -> list[tuple[str, float]]:
    """Return layers with the error that each adds to what comes in, greatest first.

    `before` names for each layer those whose outputs it is made from; what comes in is the worst of them.
    """
    own = {name: error - max((errors[one] for one in before[name]), default=0.0) for name, error in errors.items()}
    return sorted(own.items(), key=lambda item: -item[1])
