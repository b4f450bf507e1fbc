"""A stream in a group file: its source, how the source is read, and how it is played."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hams_shared.group.camera_url import redacted
from hams_shared.group.findings import Strict
from hams_shared.group.regions import Regions
from hams_shared.group.source_kind import check_source, source_kind

Hardware = Literal["none", "auto", "cuda", "vaapi", "v4l2"]


class DecodeSpec(Strict):
    """How the video of a stream is decoded."""

    every: Literal["frame", "keyframe"] = Field(
        "frame", description="keyframe: only the frames that decode on their own, one in some seconds, with little CPU"
    )
    hardware: Hardware = Field(
        "none", description="decoder to use; where it does not work the CPU decodes, and `status` shows why"
    )


class StreamSpec(Regions):
    """One source of frames, how it is played, and the places in its picture."""

    source: str = Field(
        min_length=1,
        description="a video file, an image, a folder or pattern of images, pypi:…, rtsp://…, http://…, camera:0, or "
        "push",
    )
    substream: str | None = Field(
        None,
        min_length=1,
        description="a second, smaller stream of the same camera and view: the root node detects on it, crops are cut "
        "from `source`",
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries the video")
    decode: DecodeSpec = DecodeSpec()
    mode: Literal["live", "lossless"] = Field(
        "live", description="live drops the oldest frame when the group is slower; lossless waits"
    )
    pace: Literal["realtime", "max"] = Field("realtime", description="by the file's clock, or as fast as possible")
    loop: bool = False
    fps: float | None = Field(None, gt=0, le=1000, description="frames/s to play at; none: the file's own")
    paused: bool = Field(False, description="no frame is taken of it; hams-ctl stream pause")

    @field_validator("source", "substream")
    @classmethod
    def _sound(cls, address: str | None) -> str | None:
        if address is None:
            return None
        check_source(address.strip())
        return address.strip()

    @field_validator("substream")
    @classmethod
    def _of_a_camera(cls, substream: str | None) -> str | None:
        if substream is not None and source_kind(substream) in ("file", "push"):
            raise ValueError("must be the address of a camera's stream: rtsp://…, http://… or camera:…")
        return substream

    @model_validator(mode="after")
    def _pace(self) -> StreamSpec:
        if self.mode == "live" and self.pace == "max":
            raise ValueError("pace: max needs mode: lossless (a live stream has a clock of its own)")
        if source_kind(self.source) != "file" and (self.loop or self.pace == "max" or self.fps is not None):
            raise ValueError("loop, pace and fps are for files: this source gives frames as they are made")
        return self

    @model_validator(mode="after")
    def _two_streams(self) -> StreamSpec:
        if self.substream is None:
            return self
        if source_kind(self.source) in ("file", "push"):
            raise ValueError("substream needs a camera as source (rtsp://…, http://…, camera:…): its larger stream")
        if self.substream == self.source:
            raise ValueError("substream and source are the same stream: give the camera's smaller one, or leave it out")
        if self.tiles is not None or self.roi is not None:
            raise ValueError("substream does not go with tiles or roi: their parts are cut from the larger stream")
        if self.decode.every == "keyframe":
            raise ValueError(
                "substream does not go with decode: {every: keyframe}: key frames of two streams are of different times"
            )
        return self

    @model_validator(mode="after")
    def _reading(self) -> StreamSpec:
        if self.transport == "udp" and not all(a.lower().startswith("rtsp:") for a in self.addresses):
            raise ValueError("transport: udp is for rtsp:// addresses only (rtsps:// carries the video over TLS)")
        if source_kind(self.source) == "push" and self.decode != DecodeSpec():
            raise ValueError("decode is for video: applications push single images")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """Source and, if there is one, substream; they may hold secrets."""
        return (self.source,) if self.substream is None else (self.source, self.substream)

    def without_secrets(self) -> StreamSpec:
        """The stream as people may see it."""
        shown = None if self.substream is None else redacted(self.substream)
        return self.model_copy(update={"source": redacted(self.source), "substream": shown})
