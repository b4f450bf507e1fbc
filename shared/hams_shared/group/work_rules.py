"""What a group file says of work that need not be done: tracks, cadences and conditions of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from hams_shared.group.findings import Strict

if TYPE_CHECKING:
    from hams_shared.group.node_spec import NodeSpec


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
    track: bool = Field(False, description="a child: once per track, and again when a better crop appears")
    auto: bool = Field(False, description="a detector: more often while tracks are uncertain or motion is high")
    min_fps: float = Field(1.0, gt=0, le=1000, description="of auto: detections a second at least")
    max: int | None = Field(
        None, ge=2, le=1000, description="a detector: HAMS measures how many frames it may leave out"
    )
    min_agreement: float = Field(0.95, gt=0, le=1, description="of max: IDF1 against detection on every frame")

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
            if key in self.model_fields_set and of not in given:
                raise ValueError(f"{key} goes with {of} only")
        return self

    @property
    def every_frame(self) -> bool:
        """Whether nothing is left out."""
        return self.frames == 1


def faults(nodes: Mapping[str, NodeSpec]) -> Iterator[str]:
    """What is wrong with tracks and cadences of a group's nodes."""
    for name, node in nodes.items():
        of = nodes.get(node.parent) if node.parent is not None else None
        if node.track is not None and node.parent is not None:
            yield f"node {name}: track is for the node without parent, which sees whole frames"
        if (cadence := node.cadence) is None:
            continue
        if node.parent is None:
            if cadence.track:
                yield f"node {name}: cadence: track is for children; a detector takes frames, seconds, auto or max"
            if node.track is None and not cadence.every_frame:
                yield f"node {name}: cadence needs track: boxes between two detections are predicted by the tracker"
        elif cadence.auto or cadence.max:
            key = "auto" if cadence.auto else "max"
            yield f"node {name}: cadence: {key} is for the detector; a child takes track, frames or seconds"
        elif of is not None and of.track is None:
            yield f"node {name}: cadence needs a parent with track, which carries answers on; {node.parent} has none"
