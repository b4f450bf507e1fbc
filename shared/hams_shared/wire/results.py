"""The joined result of one frame: what the pipeline publishes, what applications read, and its schema for documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from hams_shared.wire.masks import ObjectMask


@with_config(ConfigDict(extra="allow"))
class ResultObject(TypedDict):
    """An object that a detector found; it also has one key for each child node that ran on it."""

    box: Annotated[tuple[float, float, float, float], Field(description="x0, y0, x1, y1 in pixels of the frame")]
    score: Annotated[float, Field(ge=0, le=1)]
    label: str
    points: NotRequired[
        Annotated[
            list[tuple[float, float]] | None,
            Field(description="key points, where the detector gives them; with `angle`, the box's four corners"),
        ]
    ]
    visibility: NotRequired[Annotated[list[float], Field(description="for each point: how sure it is seen, 0-1")]]
    skeleton: NotRequired[
        Annotated[list[tuple[int, int]], Field(description="points that are joined, where the group file says so")]
    ]
    angle: NotRequired[
        Annotated[float, Field(description="of a turned box: of its upper side, clockwise, degrees, -90 to 90")]
    ]
    mask: NotRequired[Annotated[ObjectMask, Field(description="the object's pixels, in the grid of its box")]]
    track: NotRequired[Annotated[int, Field(ge=1, description="the object over frames; unique in its stream's `run`")]]
    age_s: NotRequired[Annotated[float, Field(description="since the track's first detection")]]
    velocity: NotRequired[Annotated[tuple[float, float], Field(description="to the right and down, pixels/s")]]
    predicted: NotRequired[
        Annotated[bool, Field(description="true: the detector did not find it in this frame; the box is expected")]
    ]
    zones: NotRequired[Annotated[list[str], Field(description="in which its foot point is")]]
    skipped: NotRequired[Annotated[dict[str, str], Field(description="child nodes that did not run on it, and why")]]


@with_config(ConfigDict(extra="allow"))
class NodeReport(TypedDict):
    """The device that served one node, and the times of the node's steps."""

    device: Annotated[str, Field(description="device id, host.backend.unit")]
    queue: NotRequired[Annotated[float, Field(description="waiting on the device, ms")]]
    prepare: NotRequired[Annotated[float, Field(description="resize and convert, ms")]]
    infer: NotRequired[Annotated[float, Field(description="the network, ms")]]
    decode: NotRequired[Annotated[float, Field(description="the task, ms")]]
    crop: NotRequired[Annotated[float, Field(description="cutting the children's crops, ms")]]


class FrameResult(TypedDict):
    """The joined result of one frame: msgpack, or JSON where the group file has `results: json`."""

    version: Annotated[Literal[1], Field(description="of this schema")]
    group: str
    stream: str
    frame: Annotated[int, Field(ge=0, description="counts from 0 in each stream")]
    captured: Annotated[
        float,
        Field(
            description="when the camera took the frame, by its RTCP clock where that is credible, else when the "
            "pipeline read it; Unix time, s"
        ),
    ]
    media_time_s: Annotated[
        float | None,
        Field(
            description="presentation time, s since the stream's first frame, by the media's own clock, else by "
            "capture; goes on where a file starts over or a camera reconnects; null of `infer`"
        ),
    ]
    latency_ms: Annotated[float, Field(description="from reading the frame to the join")]
    epoch: Annotated[int, Field(ge=1, description="of the plan it ran under")]
    width: Annotated[int, Field(gt=0, description="of the frame, pixels")]
    height: Annotated[int, Field(gt=0, description="of the frame, pixels")]
    objects: Annotated[
        list[ResultObject],
        Field(description="what the root node found; where the root describes the whole frame, one object: the frame"),
    ]
    nodes: Annotated[dict[str, NodeReport], Field(description="that ran on it")]
    run: NotRequired[
        Annotated[str, Field(description="where there are tracks: their ids begin again with another one")]
    ]
    group_version: NotRequired[
        Annotated[int, Field(ge=1, description="of the group's record it ran under: grows with each deploy")]
    ]
    traceparent: NotRequired[Annotated[str, Field(description="W3C, of a traced frame: the span of the frame")]]
    candidate: NotRequired[
        Annotated[bool, Field(description="true: it is from the group's candidate, and `epoch` is of the plan of that")]
    ]


RESULT: TypeAdapter[FrameResult] = TypeAdapter(FrameResult)
"""Checks a decoded result (``validate_python``) and gives the schema."""


def check_result(data: Any) -> FrameResult:
    """Return a decoded result once it has been checked. Raises pydantic.ValidationError."""
    return RESULT.validate_python(data)
