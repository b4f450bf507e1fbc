"""Points on an image: face meshes, key points of bodies, corners of plates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams
from hams_agents.tasks.geometry import apply
from hams_agents.tasks.head_pose import MESH_POINTS, head_pose
from hams_agents.tasks.outputs import pick, rows, sigmoid
from hams_shared.errors import TaskError


class LandmarksParams(TaskParams):
    """Parameters of ``type: landmarks``."""

    points: int = Field(ge=1, le=10000, description="how many points")
    dims: Literal[2, 3] = Field(2, description="numbers per point; a third one, depth, is not told")
    normalized: bool = Field(False, description="points are in 0..1 of the input; if not, in its pixels")
    output: str | None = Field(None, description="name of the points' output; not needed when there is one only")
    score_output: str | None = Field(None, description="name of the output that says whether the object is there")
    score_activation: Literal["sigmoid", "none"] = "sigmoid"
    head_pose: bool = Field(False, description="tell yaw, pitch and roll from the 468 points of a mediapipe face mesh")


class Landmarks:
    """Describes an image as ``{"points": [[x, y], …]}``, with ``score`` and ``pose`` where they are asked for."""

    Params: ClassVar[type[TaskParams]] = LandmarksParams

    def __init__(self, params: LandmarksParams, context: TaskContext) -> None:
        if params.head_pose and params.points < MESH_POINTS:
            raise TaskError(f"task landmarks: head_pose needs a face mesh of {MESH_POINTS} points, not {params.points}")
        self._params = params
        self._unit = np.array(context.input.size if params.normalized else (1, 1), np.float64)

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        params, count = self._params, len(to_frame)
        values = rows(pick(outputs, params.output, "landmarks"), count, "landmarks", params.points * params.dims)
        local = values.reshape(count, params.points, params.dims)[:, :, :2] * self._unit
        scores = self._scores(outputs, count)
        found: list[dict[str, Any]] = []
        for i, affine in enumerate(to_frame):
            points = apply(affine, local[i])
            item: dict[str, Any] = {"points": points.round(2).tolist()}
            if scores is not None:
                item["score"] = round(float(scores[i]), 4)
            if params.head_pose:
                item["pose"] = head_pose(points)
            found.append(item)
        return found

    def _scores(self, outputs: Outputs, count: int) -> NDArray[np.float32] | None:
        """Return one score per image, 0..1, or None when no output tells it."""
        if self._params.score_output is None:
            return None
        values = rows(pick(outputs, self._params.score_output, "landmarks"), count, "landmarks", 1)[:, 0]
        return sigmoid(values) if self._params.score_activation == "sigmoid" else values
