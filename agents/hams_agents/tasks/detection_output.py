"""SSD's own last layer, ``DetectionOutput``: boxes that the network has decoded and suppressed itself.

One output of 1×1×N×7 per image: image, class, score, x0, y0, x1, y1, the coordinates in 0..1 of the input; an image
number below 0 ends the list. Open Model Zoo's detectors have it; see
https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets/operation-specs/detection/detectionoutput-8.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import Selection, choose, pick
from hams_shared.errors import TaskError

WIDTH = 7


class DetectionOutputParams(TaskParams):
    """Parameters of ``type: detection_output``."""

    labels: dict[int, str] = Field(min_length=1, description="names by class number, only those wanted")
    threshold: float = Field(0.5, gt=0, lt=1, description="least score of an object")
    iou: float = Field(0.7, gt=0, lt=1, description="of two boxes of one class that overlap more, the lower score goes")
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(200, ge=1, le=2000, description="most objects per image, the best scores first")
    output: str | None = Field(None, description="name of the output; not needed when there is one only")


class DetectionOutput:
    """Finds objects of one or more classes."""

    Params: ClassVar[type[TaskParams]] = DetectionOutputParams
    layout: ClassVar[str] = "a list of image, class, score and box, by the network itself (SSD)"

    def __init__(self, params: DetectionOutputParams, context: TaskContext) -> None:
        self._params = params
        self._size = np.array(context.input.size, np.float64)
        self._classes = np.array(sorted(params.labels))
        self._choice = Selection(params.labels, params.iou, params.min_size, params.max_objects)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return {} if len(outputs) == 1 and len(outputs[0].shape) == 4 and outputs[0].shape[-1] == WIDTH else None

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        values = pick(outputs, self._params.output, "detection_output")
        if values.ndim < 2 or values.shape[0] != len(to_frame) or values.shape[-1] != WIDTH:
            shape = "×".join(map(str, values.shape))
            raise TaskError(f"task detection_output: the output is {shape}, expected {len(to_frame)}×1×N×{WIDTH}")
        lists = values.reshape(len(to_frame), -1, WIDTH).astype(np.float64)
        return [self._image(lists[i], affine, frame_size) for i, affine in enumerate(to_frame)]

    def _image(self, raw: NDArray[np.float64], affine: Affine, frame_size: tuple[int, int] | None) -> list[Detected]:
        ends = np.flatnonzero(raw[:, 0] < 0)
        listed = raw[: ends[0] if len(ends) else None]
        listed = listed[listed[:, 2] >= self._params.threshold]
        listed = listed[np.isin(listed[:, 1], self._classes)]
        boxes = listed[:, 3:] * np.tile(self._size, 2)
        points = np.empty((len(listed), 0, 2))
        classes = listed[:, 1].astype(np.intp)
        return choose(boxes, points, listed[:, 2], self._choice, self._size, affine, frame_size, classes)
