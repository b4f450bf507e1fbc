"""A vector that identifies an object: close for the same object, far for others (cosine)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import pick, rows
from hams_shared.group.node_spec import GallerySpec


class EmbeddingParams(TaskParams):
    """Parameters of ``type: embedding``."""

    output: str | None = Field(None, description="name of the output; not needed when there is one only")
    gallery: GallerySpec | None = Field(
        None, description="identify objects: the pipeline remembers vectors it has seen"
    )


class Embedding:
    """Describes an image as ``{"embedding": [K numbers]}``, of length 1.

    With `gallery` the joined result has ``identity`` and ``similarity`` too. That memory is the pipeline's: replicas of
    this node on several devices must agree about who is who.
    """

    Params: ClassVar[type[TaskParams]] = EmbeddingParams
    layout: ClassVar[str] = "a vector that identifies what is seen"

    def __init__(self, params: EmbeddingParams, context: TaskContext) -> None:
        self._params = params

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`: one vector, perhaps beside maps of tokens (CLIP)."""
        vectors = [one for one in outputs if (layouts.width(one) or 0) > 1]
        if len(vectors) != 1 or (layouts.width(vectors[0]) or 0) < layouts.SHORTEST_VECTOR:
            return None
        return layouts.named(vectors[0], outputs)

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        values = rows(pick(outputs, self._params.output, "embedding"), len(to_frame), "embedding")
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        unit = values / np.where(lengths > 0, lengths, 1.0)
        return [{"embedding": row} for row in unit.astype(np.float64).round(5).tolist()]
