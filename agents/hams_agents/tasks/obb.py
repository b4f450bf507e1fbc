"""YOLO detectors of rotated boxes (Ultralytics' obb): https://docs.ultralytics.com/tasks/obb/.

The number at a candidate's end is the angle by which the box is turned clockwise, in radians; width is along it. In the
form end2end the four numbers of the box are centre x, y, width, height, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hams_agents.tasks import rotated
from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.families import fit
from hams_agents.tasks.input import apply
from hams_agents.tasks.yolo_forms import Version
from hams_agents.tasks.yolo_head import Head, RichParams, Rows


class ObbParams(RichParams):
    """Parameters of ``type: obb``; `iou` is the probabilistic one of rotated boxes."""


class Obb:
    """Finds rotated boxes: `points` are their corners clockwise from top left, `angle` is that of their upper side.

    `box` is the upright box around them. Top left is the corner whose upper side points to the right.
    """

    Params: ClassVar[type[TaskParams]] = ObbParams
    layout: ClassVar[str] = "boxes with a score per class and an angle, as YOLO's networks for rotated boxes"

    def __init__(self, params: ObbParams, context: TaskContext) -> None:
        self._params = params
        self._head = Head("obb", params, context, 1)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fit("obb", outputs, input, metadata)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        version, images = self._head.candidates(outputs, len(to_frame))
        return [self._image(version, raw, affine, frame_size) for raw, affine in zip(images, to_frame, strict=True)]

    def _image(
        self, version: Version, raw: Rows, to_frame: Affine, frame_size: tuple[int, int] | None
    ) -> list[Detected]:
        params = self._params
        rows, numbers, scores = self._head.likely(version, raw)
        boxes = np.concatenate((raw[rows, :4], raw[rows, -1:]), axis=1).astype(np.float64)
        least = max(params.min_size, 1e-6)
        good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2] >= least) & (boxes[:, 3] >= least)
        boxes, numbers, scores = boxes[good], numbers[good], scores[good]
        if version == "end2end":
            kept = np.arange(min(len(boxes), params.max_objects))
        else:
            kept = rotated.keep_best(boxes, scores, params.iou, numbers, params.max_objects)
        quads, angles = rotated.upright(apply(to_frame, rotated.corners(boxes[kept])))
        hulls = np.concatenate((quads.min(axis=1), quads.max(axis=1)), axis=1)
        if frame_size is not None:
            hulls = hulls.clip(0, np.tile(frame_size, 2))
        return [
            Detected((x0, y0, x1, y1), score, self._head.names[number], quad, angle=angle)
            for (x0, y0, x1, y1), score, number, quad, angle in zip(
                hulls.tolist(), scores[kept].tolist(), numbers[kept].tolist(), quads, angles.tolist(), strict=True
            )
            if x1 > x0 and y1 > y0
        ]
