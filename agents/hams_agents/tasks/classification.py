"""One label out of a fixed list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import pick, probabilities, rows


class ClassificationParams(TaskParams):
    """Parameters of ``type: classification``."""

    labels: tuple[str, ...] = Field(min_length=2, description="in the order of the network's classes")
    activation: Literal["softmax", "none"] = Field(
        "softmax", description="none: the network's outputs are probabilities already"
    )
    output: str | None = Field(None, description="name of the output; not needed when there is one only")

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels):
            raise ValueError("a label is there twice")
        return labels


class Classification:
    """Describes an image as ``{"label": str, "score": probability}``."""

    Params: ClassVar[type[TaskParams]] = ClassificationParams
    layout: ClassVar[str] = "one number per class"

    def __init__(self, params: ClassificationParams, context: TaskContext) -> None:
        self._params = params

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        wide = [one for one in outputs if (layouts.width(one) or 0) >= layouts.FEWEST_CLASSES]
        narrow = [one for one in outputs if layouts.width(one) == 1]
        if len(wide) != 1 or len(narrow) != len(outputs) - 1:
            return None
        labels = layouts.class_names(metadata, layouts.width(wide[0]))
        return {
            **({"labels": labels} if labels else {}),
            **({"activation": "none"} if layouts.kind_of(metadata) == "classify" else {}),
            **layouts.named(wide[0], outputs),
        }

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        params = self._params
        values = pick(outputs, params.output, "classification")
        values = rows(values, len(to_frame), "classification", len(params.labels))
        chances = probabilities(values, params.activation, "classification")
        best = chances.argmax(axis=1)
        return [
            {"label": params.labels[index], "score": round(float(row[index]), 4)}
            for index, row in zip(best.tolist(), chances, strict=True)
        ]
