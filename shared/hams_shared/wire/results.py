"""What applications get: the joined result of one frame. The schema, for documents and for those who check."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Base of a result's parts."""

    model_config = ConfigDict(frozen=True)


class ResultObject(Part):
    """An object that a detector found; beside these keys it has one for each child node that looked at it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in pixels of the original frame")
    score: float = Field(ge=0, le=1)
    label: str
    points: list[tuple[float, float]] | None = Field(None, description="key points, where the detector gives them")


class NodeReport(Part):
    """Who did one node's part, and how long it took."""

    model_config = ConfigDict(frozen=True, extra="allow")

    device: str = Field(description="device id, host.backend.unit")
    queue: float = Field(0.0, description="waiting on the device, ms")
    prepare: float = Field(0.0, description="resize and convert, ms")
    infer: float = Field(0.0, description="the network, ms")
    decode: float = Field(0.0, description="the task, ms")
    crop: float = Field(0.0, description="cutting the children's crops, ms")


class FrameResult(Part):
    """The joined result of one frame: msgpack, or JSON where the group says `results: json`."""

    version: Literal[1] = Field(description="of this schema")
    group: str
    stream: str
    frame: int = Field(ge=0, description="counts from 0 in each stream")
    captured: float = Field(description="when the frame was read, Unix time, s, by the clock of the pipeline's box")
    time: float | None = Field(
        None, description="s since the stream's first frame, by a file's own clock, else by capture; null of an `infer`"
    )
    latency_ms: float = Field(description="from capture to join")
    epoch: int = Field(ge=1, description="of the plan it ran under")
    width: int = Field(gt=0, description="of the frame, pixels")
    height: int = Field(gt=0, description="of the frame, pixels")
    objects: list[ResultObject] = Field(
        description="what the first node found; where that node describes the whole frame, one object that is the frame"
    )
    nodes: dict[str, NodeReport]

    @classmethod
    def check(cls, data: dict[str, Any]) -> FrameResult:
        """Validate a decoded result. Raises pydantic.ValidationError."""
        return cls.model_validate(data)
