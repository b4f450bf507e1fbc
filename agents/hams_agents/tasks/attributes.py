"""Several things about one image at once: a class out of each of some outputs, and yes-or-no flags out of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams
from hams_agents.tasks.outputs import pick, probabilities, rows, sigmoid


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

    classes: dict[str, ClassesParams] = Field({}, description="attribute → where its value is told")
    flags: FlagsParams | None = None

    @model_validator(mode="after")
    def _any(self) -> AttributesParams:
        if not self.classes and self.flags is None:
            raise ValueError("neither classes nor flags: nothing to tell")
        if self.flags is not None and set(self.flags.names) & set(self.classes):
            raise ValueError("an attribute is among classes and flags")
        return self


class Attributes:
    """Describes an image as ``{"attributes": {"color": {"label": "red", "score": 0.9}, "has_bag": 0.98}}``.

    A class has its label and probability, a flag its probability.
    """

    Params: ClassVar[type[TaskParams]] = AttributesParams

    def __init__(self, params: AttributesParams, context: TaskContext) -> None:
        self._params = params

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
            values = sigmoid(values) if flags.activation == "sigmoid" else values
            for one, row in zip(found, values.tolist(), strict=True):
                one.update({name: round(value, 4) for name, value in zip(flags.names, row, strict=True)})
        return [{"attributes": one} for one in found]
