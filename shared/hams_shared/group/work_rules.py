"""What a group file says of work that need not be done: tracks, cadences and conditions of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from hams_shared.group.findings import Strict


class TrackSpec(Strict):
    """How the objects of a detector are followed over the frames of a stream."""

    type: Literal["bytetrack"] = "bytetrack"
    motion: Literal["boxes", "flow"] = Field(
        "boxes",
        description="where the detector does not run, boxes go on as before, or follow the image (flow: about 2 ms "
        "of CPU per frame)",
    )
    max_lost_s: float = Field(1.0, gt=0, le=3600, description="a track ends so long after its last detection")
    shown_lost_s: float = Field(
        0.3, ge=0, le=3600, description="a track that the detector misses is still in results so long, as predicted"
    )
    low_score: float = Field(
        0.1, ge=0.01, le=1, description="detections from here on carry a track on; only those of the task's threshold "
        "begin one"
    )  # fmt: skip
    confirm_hits: int = Field(2, ge=1, le=100, description="detections until a track is in results")
    confirm_score: float = Field(0.9, ge=0, le=2, description="from here on it is in results at once; 2: never")
    per_label: bool = Field(True, description="a track has detections of one label only")
    max_objects: int = Field(256, ge=1, le=4096, description="tracks at a time")


class CadenceSpec(Strict):
    """How often a node runs; short forms: a number of frames, ``auto``, ``track``."""

    frames: int | None = Field(None, ge=1, le=10_000, description="on every so many frames")
    seconds: float | None = Field(None, gt=0, le=86_400, description="once in so many seconds of the video")
    track: bool = Field(
        False,
        description="a child: once per track, and again when a better crop appears; of the task describe the default",
    )
    auto: bool = Field(False, description="a detector: more often while tracks are uncertain or motion is high")
    min_fps: float | None = Field(None, gt=0, le=1000, description="of auto: detections a second at least [1]")
    max: int | None = Field(
        None, ge=2, le=1000, description="a detector: HAMS measures how many frames it may leave out"
    )
    min_agreement: float | None = Field(
        None, gt=0, le=1, description="of max: least IDF1 against detection on every frame [0.95]"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, int) and not isinstance(data, bool):
            return {"frames": data}
        if isinstance(data, str):
            if data not in ("auto", "track"):
                raise ValueError(f"must be a number of frames, auto, track or a map, not {data!r}")
            return {data: True}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        short: list[dict[str, Any]] = [{"type": "integer", "minimum": 1}, {"enum": ["auto", "track"]}]
        return {"anyOf": [*short, handler(core)]}

    @model_validator(mode="after")
    def _one(self) -> CadenceSpec:
        given = [name for name in ("frames", "seconds", "track", "auto", "max") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of frames, seconds, track, auto, max; found {', '.join(given) or 'none'}")
        for key, of in (("min_fps", "auto"), ("min_agreement", "max")):
            if getattr(self, key) is not None and of not in given:
                raise ValueError(f"{key} goes with {of} only")
        return self

    @property
    def least_fps(self) -> float:
        """Of ``auto``: detections a second at least."""
        return 1.0 if self.min_fps is None else self.min_fps

    @property
    def floor(self) -> float:
        """Of ``max``: the least agreement."""
        return 0.95 if self.min_agreement is None else self.min_agreement

    @property
    def every_frame(self) -> bool:
        """Whether nothing is left out."""
        return self.frames == 1

    @property
    def steps(self) -> tuple[int, ...]:
        """Of `max`: the cadences whose agreement is measured, 2, 3, 5, 10, 20 … and `max` itself; else none."""
        if self.max is None:
            return ()
        known = (step * 10**power for power in range(3) for step in (2, 3, 5, 10))
        return (*sorted({one for one in known if one < self.max}), self.max)

    def chosen(self, agreement: Mapping[int, float]) -> int:
        """Of `max`: on every how many frames the detector may run, with the measured `agreement` (IDF1) by cadence.

        It is the largest up to which all that were measured agree: a larger one that agrees where a smaller one does
        not is luck. It is also the cheapest, so no target asks for another. 1 until something was measured.
        """
        best = 1
        for frames in sorted(one for one in agreement if 1 < one <= (self.max or 1)):
            if agreement[frames] < self.floor:
                break
            best = frames
        return best
