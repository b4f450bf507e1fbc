"""Numbers: straight from the network, or as the expectation over classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import pick, probabilities, rows


class RegressionParams(TaskParams):
    """Parameters of ``type: regression``."""

    output: str | None = Field(None, description="name of the output; not needed when there is one only")
    outputs: dict[str, str] = Field({}, description="several numbers: the name in the result → the network's output")
    scale: float = 1.0
    offset: float = Field(0.0, description="the value is output * scale + offset")
    unit: str | None = Field(None, description="stands with the value, e.g. years")

    @model_validator(mode="after")
    def _one_way(self) -> RegressionParams:
        if self.output and self.outputs:
            raise ValueError("give either output or outputs")
        return self


class Regression:
    """Describes an image as ``{"value": x}``, or ``{name: x, …}`` with `outputs`; x is a list when it has several."""

    Params: ClassVar[type[TaskParams]] = RegressionParams
    layout: ClassVar[str] = "single numbers"

    def __init__(self, params: RegressionParams, context: TaskContext) -> None:
        self._params = params

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        single = [one for one in outputs if layouts.width(one) == 1]
        if single:
            named = {layouts.key(one.name): one.name for one in single}
            return {"outputs": named} if len(single) > 1 else layouts.named(single[0], outputs)
        few = len(outputs) == 1 and (layouts.width(outputs[0]) or layouts.MOST_FLAGS) <= layouts.MOST_NUMBERS
        return {} if few else None

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        params = self._params
        wanted: dict[str, str | None] = {**params.outputs} if params.outputs else {"value": params.output}
        count = len(to_frame)
        found: list[dict[str, Any]] = [{} for _ in range(count)]
        for name, source in wanted.items():
            values = rows(pick(outputs, source, "regression"), count, "regression") * params.scale + params.offset
            for item, row in zip(found, values, strict=True):
                numbers = [round(float(value), 4) for value in row]
                item[name] = numbers[0] if len(numbers) == 1 else numbers
        if params.unit:
            for item in found:
                item["unit"] = params.unit
        return found


class ExpectationParams(TaskParams):
    """Parameters of ``type: expectation``."""

    classes: int = Field(ge=2, description="how many classes the network has")
    first: float = Field(0.0, description="what class 0 stands for")
    step: float = Field(1.0, description="from one class to the next")
    activation: Literal["softmax", "none"] = Field(
        "softmax", description="none: the network's outputs are probabilities already"
    )
    output: str | None = Field(None, description="name of the output; not needed when there is one only")
    unit: str | None = Field(None, description="stands with the value, e.g. years")


class Expectation:
    """Describes an image as ``{"value": sum of p[k] * (first + k * step)}``.

    Rothe, Timofte, Van Gool, *DEX: Deep EXpectation of apparent age from a single image*, ICCV workshops 2015.
    """

    Params: ClassVar[type[TaskParams]] = ExpectationParams
    layout: ClassVar[str] = "one number per class, of which each stands for a value"

    def __init__(self, params: ExpectationParams, context: TaskContext) -> None:
        self._params = params
        self._values = params.first + params.step * np.arange(params.classes)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        width = layouts.width(outputs[0]) if len(outputs) == 1 else None
        return {"classes": width} if width in layouts.AGES else None

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        params = self._params
        values = rows(pick(outputs, params.output, "expectation"), len(to_frame), "expectation", params.classes)
        chances = probabilities(values, params.activation, "expectation").astype(np.float64)
        total = np.maximum(chances.sum(axis=1), 1e-9)  # quantised networks do not sum to 1 exactly
        extra = {"unit": params.unit} if params.unit else {}
        return [{"value": round(float(v), 2), **extra} for v in chances @ self._values / total]
