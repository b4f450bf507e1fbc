"""What happened to one frame, and when: what `hams-ctl trace` draws, and what traces are exported from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire


class TracesWanted(Wire):
    """On ``hams.v1.traces-wanted.<group>``: a client requests the traces of the next frames; it holds for a while."""

    stream: str = Field("*", description="name of a stream, or * for all")
    count: int = Field(1, ge=1, le=100, description="of each stream: how many frames")


class TraceSpan(Wire):
    """A part of a frame's way. Times are ms since the trace began."""

    name: str = Field(description="frame, read, gate, wait, choose, join, publish; the node's name; or a node's step")
    parent: int | None = Field(description="its parent's place in `spans`; none: it is the frame itself")
    start_ms: float = Field(ge=0)
    end_ms: float = Field(ge=0)
    follows: int | None = Field(None, description="place in `spans` of the span whose end it began after")
    node: str = Field("", description="of a node, and of its steps")
    device: str = Field("", description="that served the node")
    images: int | None = Field(None, description="of a node: how many it was given; none: it is not known")
    shifted_ms: float = Field(0.0, description="of a node: by how much its device's clock was corrected")
    error: str = Field("", description="why it ended without an answer: a code, and the text after a colon")

    @property
    def duration_ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms


class FrameTrace(Wire):
    """On ``hams.v1.trace.<group>.<stream>``, while a client requests it: the trace of a frame that has ended."""

    version: Literal[1] = 1
    group: str
    stream: str
    frame: int
    attempts: int = Field(0, description="how often it was sent to devices")
    epoch: int = Field(0, description="of the plan of its last attempt; 0: it was not sent")
    captured: float = Field(description="Unix time, s")
    began: float = Field(description="Unix time of the trace's beginning, by the pipeline's clock, s")
    traceparent: str = Field(description="W3C; its span is the frame's own")
    parent: str = Field("", description="the traceparent that the frame came with")
    sampled: bool = Field(description="whether it is exported, too, and its messages carry the traceparent")
    outcome: Literal["delivered", "gated", "dropped", "failed"]
    reason: str = ""
    detail: str = ""
    objects: int = Field(0, description="that the root found")
    predicted: bool = Field(False, description="whether the root did not look at it: its objects are predicted")
    spans: tuple[TraceSpan, ...] = Field(description="the frame itself first; each after its parent")

    @property
    def duration_ms(self) -> float:
        """From the beginning of its reading to its end."""
        return self.spans[0].duration_ms

    def critical_path(self) -> list[int]:
        """Return the places in `spans` of those that decided when the frame ended, the first of them first.

        Had one of them been shorter, the frame would have ended earlier, unless another way is as long.
        """
        ends = [index for index, span in enumerate(self.spans) if span.parent == 0]
        at: int | None = max(ends, key=lambda index: (self.spans[index].end_ms, index), default=None)
        path: list[int] = []
        while at is not None and at not in path:
            path.append(at)
            at = self.spans[at].follows
        return path[::-1]
