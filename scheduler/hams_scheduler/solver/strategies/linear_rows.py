"""Rows of a linear program, put together block by block as triplets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from hams_scheduler.solver.instance import FloatArray, IntArray


class LinearRows:
    """Rows `low ≤ a·x ≤ high`."""

    def __init__(self) -> None:
        self._row: list[IntArray] = []
        self._column: list[IntArray] = []
        self._value: list[FloatArray] = []
        self._low: list[FloatArray] = []
        self._high: list[FloatArray] = []
        self._count = 0

    def open(self, count: int, low: npt.ArrayLike, high: npt.ArrayLike) -> int:
        """Add `count` empty rows with these limits; return the number of the first."""
        first = self._count
        self._low.append(np.broadcast_to(np.asarray(low, dtype=np.float64), count))
        self._high.append(np.broadcast_to(np.asarray(high, dtype=np.float64), count))
        self._count += count
        return first

    def put(self, row: npt.ArrayLike, column: npt.ArrayLike, value: npt.ArrayLike) -> None:
        """Add `value` at these places."""
        rows, columns, values = np.broadcast_arrays(row, column, np.asarray(value, dtype=np.float64))
        self._row.append(rows.ravel().astype(np.int64))
        self._column.append(columns.ravel().astype(np.int64))
        self._value.append(values.ravel())

    def matrix(self, width: int) -> tuple[csr_array, FloatArray, FloatArray]:
        """Return the matrix of `width` columns, and the limits."""
        places = (np.concatenate(self._row), np.concatenate(self._column))
        table = csr_array((np.concatenate(self._value), places), shape=(self._count, width))
        return table, np.concatenate(self._low), np.concatenate(self._high)
