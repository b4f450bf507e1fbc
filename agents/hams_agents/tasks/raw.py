"""The network's outputs as they are, for a network no task is written for yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams, TensorInfo
from hams_shared.errors import TaskError


class RawParams(TaskParams):
    """Parameters of ``type: raw``."""

    max_values: int = Field(4096, ge=1, le=1 << 20, description="values per output; further ones are left out")


class Raw:
    """Describes an image as ``{output: {"shape": [...], "values": [...]}}``; values in C order, without the batch axis.

    Values that are not finite become None. Left-out values are announced by ``"truncated": true``.
    """

    Params: ClassVar[type[TaskParams]] = RawParams
    not_finite = True
    layout: ClassVar[str] = "numbers; every network has them"

    def __init__(self, params: RawParams, context: TaskContext) -> None:
        self._limit = params.max_values

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return {} if outputs else None

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        for name, values in outputs.items():
            if values.ndim == 0 or values.shape[0] != len(to_frame):
                raise TaskError(f"task raw: output {name!r} is {list(values.shape)} for {len(to_frame)} images")
        return [{name: self._one(values[i]) for name, values in outputs.items()} for i in range(len(to_frame))]

    def _one(self, values: NDArray[np.generic]) -> dict[str, Any]:
        numbers: list[Any] = values.ravel()[: self._limit].tolist()
        plain = [None if isinstance(n, float) and not math.isfinite(n) else n for n in numbers]
        item: dict[str, Any] = {"shape": list(values.shape), "values": plain}
        if values.size > self._limit:
            item["truncated"] = True
        return item
