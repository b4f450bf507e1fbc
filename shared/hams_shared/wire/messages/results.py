"""Kept results: reading what the broker has stored, and how far each lossless stream has come."""

from __future__ import annotations

from pydantic import Field

from hams_shared.wire.messages.base import StoredAnswer, StoredRequest, Wire


class ResultsRequest(StoredRequest):
    """Request on ``hams.v1.results-after.<group>``: some of its stored results, oldest first."""

    stream: str = Field("*", pattern=r"^(\*|[a-zA-Z0-9_-]{1,64})$", description="name of a stream, or * for all")
    reader: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9_-]{0,64}$",
        description="name of a reader whose place the pipeline keeps: it has dealt with all up to `dealt`",
    )
    dealt: int = Field(0, ge=0, description="of a reader, unless it resumes")
    resume: bool = Field(
        False, description="of a reader: from its kept place on; `since_s` or `after` where it has none yet"
    )
    end: bool = Field(False, description="of a reader: it only reports its place, at once, and wants no results")


class StoredResult(Wire):
    """A result as it is stored, or a part of one that is larger than the broker takes."""

    sequence: int = Field(description="grows from result to result of a site; `after` takes it")
    result: bytes = Field(description="as on ``hams.v1.result.<group>.<stream>``")


class ResultsAnswer(StoredAnswer):
    """Stored results, and where to read on; or why there are none."""

    results: tuple[StoredResult, ...] = ()
    kept: bool = Field(True, description="whether the group keeps its results now, or some are still stored")


class ReaderRecord(Wire):
    """KV ``hams-positions``, ``<group>.reader.<name>``: how far a reader of kept results has come."""

    after: int
    journal: str = ""


class MediaMark(Wire):
    """Where a source was read to: all up to one frame."""

    index: int = Field(description="frames read since its beginning")
    at: float | None = Field(None, description="presentation time of the last of them by the source's own clock, s")
    now: float = Field(0.0, description="its `media_time_s`")
    step: float = Field(0.0, description="the time between it and the frame before, s")


class PositionRecord(Wire):
    """KV ``hams-positions``, ``<group>.stream.<stream>``: how far a lossless stream has come."""

    source: str = Field(description="which source it was: another one is read from its beginning")
    series: str = Field(description="frames are counted from 0 again with another one; part of the ids of results")
    frame: int = Field(description="the next one: all before it have ended, and their results are published")
    mark: MediaMark | None = Field(None, description="of a file: where reading goes on; none: at its beginning")
    ended: bool = False
    gated: int = 0
    dropped: dict[str, int] = Field({})
    failed: dict[str, int] = Field({})
    restarts: int = Field(0, description="of the pipeline since the stream began")


class KeptSizes(Wire):
    """KV ``hams-positions``, ``<group>.kept``: how many bytes the group has stored, in pieces, oldest first."""

    pieces: tuple[tuple[int, int], ...] = Field((), description="sequence of the last result of a piece, and its bytes")
