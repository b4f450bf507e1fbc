"""Requests to the pipeline, and its view of the streams."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.messages.base import BRIEF, Wire, WireError
from hams_shared.wire.messages.candidate import CandidateView
from hams_shared.wire.messages.events import PlaceCounts
from hams_shared.wire.messages.histogram import Histogram


class StreamView(Wire):
    """One stream as the pipeline sees it now."""

    group: str
    stream: str
    state: Literal["waiting", "playing", "reconnecting", "paused", "ended", "failed"]
    text: str = ""
    decoder: str = Field("", description="codec, size, and what decodes it, with the reason where it is no hardware")
    damaged: int = Field(0, description="packets and frames of the source that were lost or damaged")
    submitted: int = 0
    delivered: int = 0
    gated: int = Field(0, description="frames that were not computed, since nothing moved")
    in_flight: int = 0
    dropped: dict[str, int] = Field({})
    failed: dict[str, int] = Field({})
    resent: int = 0
    fps: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    latency: Histogram | None = Field(None, description="s, from reading a frame to its result, of all delivered ones")
    deployed_at: float = Field(0.0, description="of the group's record that the stream is of")
    places: PlaceCounts = Field(PlaceCounts(), description="what tracks did in zones and at lines since the run began")


class EventsView(Wire):
    """The way of one group's events to the broker, since the group was set up."""

    group: str
    waiting: int = Field(0, description="events that the broker has not stored yet")
    published: int = Field(0, description="events that it has stored")
    overflowed: int = Field(0, description="events that gave way because too many waited; they are lost")
    refused: int = Field(0, description="events that the broker does not take; they are lost")


class PipelineView(Wire):
    """All streams of a pipeline, and its process."""

    streams: tuple[StreamView, ...]
    events: tuple[EventsView, ...] = Field((), description="of the groups that have tracks")
    candidates: tuple[CandidateView, ...] | None = Field(
        None, description="also those that a rule has ended lately; none: the pipeline knows no candidates"
    )
    host: str = ""
    cpu_s: float = Field(0.0, ge=0, description="CPU time of its process since start, reading included")
    version: str = ""
    protocol: tuple[int, int] = Field((0, 0), description="oldest and newest that it speaks")
    unread: dict[str, WireError] = Field({}, description="by group: why its record cannot be read")


class NodeSummary(Wire):
    """One node, for applications."""

    name: str
    task: str = Field(description="the type of its task")
    parent: str | None = Field(None, description="the node whose objects it describes; null: it sees whole frames")


class GroupSummary(Wire):
    """One deployed group, for applications: nothing of where its streams come from."""

    name: str
    serving: bool = Field(description="whether frames go to devices now")
    deployed_at: float = Field(description="Unix time, s")
    nodes: tuple[NodeSummary, ...]
    streams: tuple[str, ...] = ()
    pushed: tuple[str, ...] = Field((), description="those of the streams that applications feed")
    tracks: bool = Field(False, description="whether its objects have tracks, hence events")
    next_frames: dict[str, int] = Field({}, description="of pushed streams: the number of the frame to push next")
    kept: bool = Field(False, description="whether the broker keeps its results for a while")


class GroupsView(Wire):
    """The answer on ``hams.v1.pipeline.groups``: all deployed groups, by name."""

    groups: tuple[GroupSummary, ...]


class ReadCostRequest(Wire):
    """Request on ``hams.v1.pipeline.read-cost``: read the beginning of a video, to see what it costs."""

    stream: Annotated[StreamSpec, BRIEF]


class StillRequest(Wire):
    """Request on ``hams.v1.pipeline.still``: one picture of a source, to draw zones on."""

    stream: Annotated[StreamSpec, BRIEF]
    width: int = Field(1280, ge=16, le=4096, description="most pixels of width")


class Still(Wire):
    """A picture of a source, or why there is none."""

    jpeg: bytes = b""
    width: int = Field(0, description="of the source, pixels")
    height: int = 0
    error: WireError | None = None


class ReadCost(Wire):
    """The cost of reading a video, or why it is not known."""

    cpu_ms: float = Field(0.0, ge=0, description="CPU time of reading and decoding a frame")
    frames: int = Field(0, description="frames that were read")
    pixels: int = Field(0, ge=0, description="of a frame")
    error: WireError | None = None


class StreamLoad(Wire):
    """The cost of one stream since its group was set up."""

    group: str
    stream: str
    frames: int = Field(0, description="frames read")
    read_cpu_s: float = Field(0.0, description="CPU time of reading and decoding them")
    completed: int | None = Field(None, description="frames delivered or gated; none: the pipeline does not count them")
    lost: int = Field(0, description="frames dropped or failed")
    agreement: tuple[tuple[int, float], ...] = Field(
        (), description="of cadence: max, once measured: (cadence, IDF1 of its tracks with those of every frame)"
    )


class PipelineLoad(Wire):
    """``hams.v1.pipeline.load``: what the pipeline costs its host; sent once a second."""

    host: str
    incarnation: str = Field(description="new at every start of the pipeline")
    uptime_s: float
    cpu_s: float = Field(description="CPU time of its process since start, reading included")
    streams: tuple[StreamLoad, ...] = ()
    results: int = Field(0, description="results delivered since start")
    outputs: int = Field(0, description="outputs of nodes taken since start")


class InferRequest(Wire):
    """Request on ``hams.v1.infer.<group>``: one encoded image (JPEG, PNG, …), or raw pixels with their shape."""

    image: bytes
    shape: tuple[int, int, int] | None = Field(None, description="of raw pixels: height, width, 3 (B, G, R)")
    deadline_s: float = Field(30.0, gt=0, le=600)
    traceparent: str = Field("", description="W3C: the application's span, of which the frame's becomes a child")


class InferAnswer(Wire):
    """The joined result (see docs/messages.md), or why there is none."""

    result: dict[str, Any] | None = None
    error: WireError | None = None


class PushRequest(InferRequest):
    """Request on ``hams.v1.push.<group>.<stream>``: the next frame of a stream with ``source: push``."""

    frame: int | None = Field(
        None,
        ge=0,
        description="its number, by which one that was taken already is known; refused where it is not the next",
    )


class PushAnswer(Wire):
    """The number the frame got, or why it was not taken. It comes when there is room for the frame."""

    frame: int | None = None
    overloaded: bool = Field(False, description="live: an older frame that still waited was dropped for this one")
    error: WireError | None = None


REQUEST_LEASE_S = 6.0
"""A request for pictures or outputs holds for this long, s; clients repeat it."""


class PicturesWanted(Wire):
    """On ``hams.v1.pictures-wanted.<group>``: a client requests pictures of the delivered frames."""

    stream: str = Field("*", description="name of a stream, or * for all")
    quality: int = Field(90, ge=1, le=100, description="of the JPEG")


class OutputsWanted(Wire):
    """On ``hams.v1.outputs-wanted.<group>``: a client requests the outputs of a node as messages of their own."""

    node: str = Field("*", description="name of a node, or * for all")
    stream: str = Field("*", description="name of a stream, or * for all")


class PreviewWanted(Wire):
    """On ``hams.v1.pictures-wanted.<group>.preview``: a page requests some small pictures with their results."""

    stream: str = Field(description="name of a stream")
    fps: float = Field(5.0, gt=0, le=30, description="pictures/s, at most")
    width: int = Field(640, ge=16, le=3840, description="of the picture, pixels, at most")
    quality: int = Field(75, ge=1, le=100, description="of the JPEG")


class FramePreview(Wire):
    """On ``hams.v1.picture.<group>.<stream>.preview``: a delivered frame, scaled down, with its result."""

    stream: str
    frame: int
    jpeg: bytes
    result: bytes = Field(description="the joined result as it was published")
    cpu_ms: float = Field(0.0, description="CPU time of scaling and encoding it")


class FramePicture(Wire):
    """On ``hams.v1.picture.<group>.<stream>``, just before the frame's result, while a client requests it."""

    stream: str
    frame: int
    jpeg: bytes
