"""Arrays of numbers in messages of the data plane."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

MOST_BYTES = 1 << 28
"""Of one array: beyond it the message is refused."""


class Numbers(Struct, array_like=True, forbid_unknown_fields=True):
    """One array, in C order."""

    shape: list[Annotated[int, Meta(gt=0, le=1 << 24)]]
    kind: Literal["<f4", "<f8"]
    data: memoryview

    def __post_init__(self) -> None:
        size = math.prod(self.shape) * int(self.kind[-1])
        if not self.shape or size != self.data.nbytes or size > MOST_BYTES:
            raise ValueError(f"{self.data.nbytes} bytes of numbers do not fill shape {self.shape}")

    @classmethod
    def of(cls, values: NDArray[Any]) -> Numbers:
        """Of any real numbers: float32 stays, others become float64."""
        kind: Literal["<f4", "<f8"] = "<f4" if values.dtype == np.float32 else "<f8"
        return cls(list(values.shape), kind, np.ascontiguousarray(values, kind).data.cast("B"))

    def read(self) -> NDArray[Any]:
        """Return the array, a view of the message."""
        return np.frombuffer(self.data, self.kind).reshape(self.shape)
