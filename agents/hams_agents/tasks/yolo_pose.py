"""YOLO detectors that also give the key points of each object (Ultralytics' pose, YOLOv7-pose).

The numbers at a candidate's end are x, y as those of its box, and how sure it is that the point can be seen (0..1),
for each point: https://docs.ultralytics.com/tasks/pose/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.families import BODY, fit
from hams_agents.tasks.input import apply
from hams_agents.tasks.names import point_shape
from hams_agents.tasks.skeletons import Skeleton, joined
from hams_agents.tasks.yolo import objects
from hams_agents.tasks.yolo_head import Head, RichParams

PERSON = ("person",)


class YoloPoseParams(RichParams):
    """Parameters of ``type: yolo-pose``."""

    points: int | None = Field(
        None, ge=1, le=1000, description="key points of an object; none: `kpt_shape` of the file's metadata, else 17"
    )
    dims: Literal[2, 3] | None = Field(
        None, description="numbers per point: x, y, and 3: whether it can be seen; none: by the metadata, else 3"
    )
    skeleton: Skeleton = Field(
        None, description="pairs of points that are joined; none: COCO's persons where there are 17"
    )


class YoloPose:
    """Finds objects with key points; where the file names no classes, they are persons."""

    Params: ClassVar[type[TaskParams]] = YoloPoseParams
    layout: ClassVar[str] = "boxes with a score per class and x, y, visibility of key points, as YOLO's pose networks"

    def __init__(self, params: YoloPoseParams, context: TaskContext) -> None:
        known = point_shape(context.metadata) or (BODY, 3)
        self._points = params.points or known[0]
        self._dims = params.dims or known[1]
        self._skeleton = joined("yolo-pose", params.skeleton, self._points)
        if not params.labels and "names" not in context.metadata:
            params = params.model_copy(update={"labels": PERSON})
        self._head = Head("yolo-pose", params, context, self._points * self._dims, point=self._dims)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fit("yolo-pose", outputs, input, metadata)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        version, images = self._head.candidates(outputs, len(to_frame))
        result = []
        for raw, affine in zip(images, to_frame, strict=True):
            found = self._head.find(version, raw, affine, frame_size)
            numbers = raw[found.rows, -self._points * self._dims :].reshape(-1, self._points, self._dims)
            points = apply(affine, numbers[:, :, :2].astype(np.float64))
            seen = numbers[:, :, 2].clip(0, 1).astype(np.float64) if self._dims == 3 else [None] * len(points)
            result.append(
                [
                    replace(one, points=at, visibility=sure, skeleton=self._skeleton)
                    for one, at, sure in zip(objects(found), points, seen, strict=True)
                    if np.isfinite(at).all()
                ]
            )
        return result
