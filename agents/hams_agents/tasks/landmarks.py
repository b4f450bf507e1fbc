"""Points on an image: face meshes, key points of bodies, corners of plates.

As coordinates, or as heat maps or vectors: :mod:`hams_agents.tasks.heatmaps`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Detected, Outputs, Reads, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import pick, rows, sigmoid
from hams_agents.tasks.head_pose import MESH_POINTS, head_pose
from hams_agents.tasks.heatmaps import fits, from_maps, from_vectors
from hams_agents.tasks.input import apply
from hams_agents.tasks.skeletons import Skeleton, joined
from hams_shared.errors import TaskError

Index = Annotated[int, Field(ge=0)]


class Openness(TaskParams):
    """How far an eye, or a mouth, is open: the mean distance of points of its lids over that of its corners."""

    output: str = Field(description="name of the output that holds the outline; `dims` numbers per point")
    points: int = Field(ge=4, le=10000, description="how many points the outline has")
    corners: tuple[Index, Index] = Field(description="its two corners, counted from 0")
    lids: tuple[tuple[Index, Index], ...] = Field(min_length=1, description="pairs of points that face each other")


class LandmarksParams(TaskParams):
    """Parameters of ``type: landmarks``."""

    points: int = Field(ge=1, le=10000, description="how many points")
    dims: int = Field(2, ge=2, le=8, description="numbers per point; those after x and y are left out (depth …)")
    first: int | None = Field(None, ge=1, description="output only so many of the points; none: all")
    visibility: int | None = Field(
        None, ge=2, le=7, description="which of a point's numbers, from 0, gives whether it can be seen; its logit"
    )
    decode: Literal["coordinates", "heatmaps", "simcc"] = Field(
        "coordinates",
        description="as numbers, as a heat map of each point (HRNet, ViTPose), or as vectors along x and y (RTMPose)",
    )
    udp: bool = Field(
        False, description="heatmaps: the outer cells are the input's outer pixels, as of ViTPose and UDP"
    )
    skeleton: Skeleton = Field(
        None, description="pairs of points that are joined; none: of COCO's 17 and mediapipe's 33 points of bodies"
    )
    normalized: bool = Field(False, description="points are in 0..1 of the input; if not, in its pixels")
    output: str | None = Field(None, description="name of the points' output; not needed when there is one only")
    score_output: str | None = Field(None, description="name of the output that gives whether the object is there")
    score_activation: Literal["sigmoid", "none"] = "sigmoid"
    openness: Openness | None = Field(None, description="output `open`, from an outline that the network gives as well")
    parts: dict[str, tuple[Index, ...]] = Field(
        {}, description="objects for the node's children: label → two or more of the points, counted from 0"
    )
    parts_score: float = Field(0.5, ge=0, le=1, description="least score of an image for its parts to be output")
    head_pose: bool = Field(
        False, description="output yaw, pitch and roll from the 468 points of a mediapipe face mesh"
    )


class Landmarks:
    """Describes an image as ``{"points": [[x, y], …]}``; ``score``, ``visibility``, ``skeleton``, ``pose``, ``open``
    where asked for; heat maps and vectors always give ``visibility``.

    With `parts` there are ``objects`` too: each the square about the middle of its points, whose side is the greatest
    distance between two of them, with these points as its own; so that it turns and grows as they do.
    """

    Params: ClassVar[type[TaskParams]] = LandmarksParams
    layout: ClassVar[str] = "x and y of points"

    def __init__(self, params: LandmarksParams, context: TaskContext) -> None:
        if params.head_pose and params.points < MESH_POINTS:
            raise TaskError(f"task landmarks: head_pose needs a face mesh of {MESH_POINTS} points, not {params.points}")
        used = min(params.first or params.points, params.points)
        for label, indices in params.parts.items():
            if len(set(indices)) < 2 or max(indices) >= used:
                raise TaskError(f"task landmarks: part {label} needs two or more points from 0 to {used - 1}")
        if params.decode != "coordinates" and (params.openness or params.visibility is not None or params.normalized):
            raise TaskError("task landmarks: openness, visibility and normalized go with decode: coordinates only")
        if params.visibility is not None and params.visibility >= params.dims:
            raise TaskError(
                f"task landmarks: visibility {params.visibility} is not among {params.dims} numbers per point"
            )
        outline = params.openness
        if outline is not None and max(*outline.corners, *(i for pair in outline.lids for i in pair)) >= outline.points:
            raise TaskError(f"task landmarks: openness needs points from 0 to {outline.points - 1}")
        joined("landmarks", params.skeleton, used)
        self.parts = bool(params.parts)
        self._params = params
        self._size = context.input.size
        self._unit = np.array(context.input.size if params.normalized else (1, 1), np.float64)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fits(outputs, input) or layouts.points_in(outputs)

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        params, count = self._params, len(to_frame)
        local, seen = self._points(outputs, count)
        scores = self._scores(outputs, count)
        openness = self._openness(outputs, count)
        found: list[dict[str, Any]] = []
        for i, affine in enumerate(to_frame):
            points = apply(affine, local[i])
            item: dict[str, Any] = {"points": points.round(2).tolist()}
            if scores is not None:
                item["score"] = round(float(scores[i]), 4)
            if seen is not None:
                item["visibility"] = seen[i].round(3).tolist()
            if params.skeleton is not None:
                item["skeleton"] = [list(pair) for pair in params.skeleton]
            if openness is not None:
                item["open"] = round(float(openness[i]), 4)
            if params.head_pose:
                item["pose"] = head_pose(points)
            if self.parts:
                item["objects"] = self._parts(points, item.get("score", 1.0))
            found.append(item)
        return found

    def _points(self, outputs: Outputs, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return N×K×2 points in pixels of the input, and N×K how sure it is that each can be seen, or None."""
        params = self._params
        if params.decode == "coordinates":
            values = rows(pick(outputs, params.output, "landmarks"), count, "landmarks", params.points * params.dims)
            numbers = values.reshape(count, params.points, params.dims)[:, : params.first]
            seen = None if params.visibility is None else sigmoid(numbers[:, :, params.visibility]).astype(np.float64)
            return numbers[:, :, :2] * self._unit, seen
        if params.decode == "heatmaps":
            local, scores = from_maps(outputs, params.output, count, params.points, self._size, params.udp)
        else:
            local, scores = from_vectors(outputs, count, params.points, self._size)
        if not np.isfinite(scores).all():
            raise TaskError(
                "task landmarks: the network gave values that are not finite",
                "check the input's mean and scale, or use a device that computes in fp32",
            )
        return local[:, : params.first], scores[:, : params.first].clip(0, 1)

    def reads(self, outputs: Outputs) -> Reads:
        """The points, and the score and the outline where asked for."""
        if self._params.decode == "simcc":
            return dict.fromkeys(outputs)
        outline = self._params.openness
        named = {self._params.output, self._params.score_output, outline.output if outline else None}
        return {name: None for name in outputs if self._params.output is None or name in named}

    def _parts(self, points: NDArray[np.float64], score: float) -> list[Detected]:
        """Return the parts of one image; those whose points coincide, or are not finite, are left out."""
        if score < self._params.parts_score:
            return []
        found: list[Detected] = []
        for label, indices in self._params.parts.items():
            marks = points[list(indices)]
            half = float(np.linalg.norm(marks[:, None] - marks, axis=2).max()) / 2
            x, y = ((marks.min(axis=0) + marks.max(axis=0)) / 2).tolist()
            if math.isfinite(half) and half > 0:
                found.append(Detected((x - half, y - half, x + half, y + half), score, label, marks))
        return found

    def _openness(self, outputs: Outputs, count: int) -> NDArray[np.float64] | None:
        """Return for each image how far its outline is open, or None when it is not asked for."""
        openness = self._params.openness
        if openness is None:
            return None
        dims = self._params.dims
        values = rows(pick(outputs, openness.output, "landmarks"), count, "landmarks", openness.points * dims)
        outline = values.reshape(count, openness.points, dims)[:, :, :2] * self._unit
        first, second = (np.array([pair[i] for pair in openness.lids]) for i in (0, 1))
        apart = np.linalg.norm(outline[:, first] - outline[:, second], axis=2).mean(axis=1)
        wide = np.linalg.norm(outline[:, openness.corners[0]] - outline[:, openness.corners[1]], axis=1)
        return np.asarray(apart / np.maximum(wide, 1e-6), np.float64)

    def _scores(self, outputs: Outputs, count: int) -> NDArray[np.float32] | None:
        """Return one score per image, 0..1, or None when no output gives it."""
        if self._params.score_output is None:
            return None
        values = rows(pick(outputs, self._params.score_output, "landmarks"), count, "landmarks", 1)[:, 0]
        return sigmoid(values) if self._params.score_activation == "sigmoid" else values
