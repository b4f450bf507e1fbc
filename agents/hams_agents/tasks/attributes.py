"""Several attributes of one image: one class per output, yes/no flags, and points (of a garment's colour)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import pick, probabilities, rows
from hams_agents.tasks.input import apply


class ClassesParams(TaskParams):
    """One attribute with a fixed list of values."""

    output: str = Field(description="name of its output")
    labels: tuple[str, ...] = Field(min_length=2, description="in the order of the network's classes")
    activation: Literal["softmax", "none"] = Field("none", description="none: the outputs are probabilities already")


class FlagsParams(TaskParams):
    """Attributes that are there or not, in one output."""

    output: str | None = Field(None, description="name of the output; not needed when there is one only")
    names: tuple[str, ...] = Field(min_length=1, description="in the order of the network's numbers")
    activation: Literal["sigmoid", "none"] = Field("none", description="none: the outputs are probabilities already")


class AttributesParams(TaskParams):
    """Parameters of ``type: attributes``."""

    classes: dict[str, ClassesParams] = Field({}, description="attribute → where its value is")
    flags: FlagsParams | None = None
    points: dict[str, str] = Field({}, description="name → the output with its x and y, in 0..1 of the input")

    @model_validator(mode="after")
    def _any(self) -> AttributesParams:
        if not self.classes and self.flags is None:
            raise ValueError("neither classes nor flags: no output would be used")
        if self.flags is not None and set(self.flags.names) & set(self.classes):
            raise ValueError("an attribute is among classes and flags")
        return self


class Attributes:
    """Describes an image as ``{"attributes": {"color": {"label": "red", "score": 0.9}, "has_bag": 0.98}}``.

    A class has its label and probability, a flag its probability. Points come as ``"points": [[x, y], …]`` in pixels of
    the frame, with their names in ``"point_names"``.
    """

    Params: ClassVar[type[TaskParams]] = AttributesParams
    layout: ClassVar[str] = "yes-or-no flags, or one vector for each attribute"

    def __init__(self, params: AttributesParams, context: TaskContext) -> None:
        self._params = params
        self._size = np.array(context.input.size, np.float64)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        widths = [layouts.width(one) or 0 for one in outputs]
        if len(outputs) == 1 and 2 <= widths[0] <= layouts.MOST_FLAGS:
            return {"flags": {}}
        if len(outputs) < 2 or not all(2 <= width <= layouts.MOST_FLAGS for width in widths):
            return None
        return {"classes": {layouts.key(one.name): {"output": one.name} for one in outputs}}

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        count = len(to_frame)
        found: list[dict[str, Any]] = [{} for _ in range(count)]
        for name, of in self._params.classes.items():
            values = rows(pick(outputs, of.output, "attributes"), count, "attributes", len(of.labels))
            chances = probabilities(values, of.activation, "attributes")
            for one, row in zip(found, chances, strict=True):
                index = int(row.argmax())
                one[name] = {"label": of.labels[index], "score": round(float(row[index]), 4)}
        flags = self._params.flags
        if flags is not None:
            values = rows(pick(outputs, flags.output, "attributes"), count, "attributes", len(flags.names))
            values = probabilities(values, flags.activation, "attributes")
            for one, row in zip(found, values.tolist(), strict=True):
                one.update({name: round(value, 4) for name, value in zip(flags.names, row, strict=True)})
        items: list[dict[str, Any]] = [{"attributes": one} for one in found]
        if self._params.points:
            sources = self._params.points.values()
            local = np.stack([rows(pick(outputs, o, "attributes"), count, "attributes", 2) for o in sources], axis=1)
            for one, points, affine in zip(items, local * self._size, to_frame, strict=True):
                one["points"] = apply(affine, points).round(2).tolist()
                one["point_names"] = list(self._params.points)
        return items
