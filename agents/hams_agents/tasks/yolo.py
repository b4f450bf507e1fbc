"""YOLO as Ultralytics exports it to ONNX: boxes decoded by the network, suppression left to us.

    v5   N×P×(5+C)   centre x, y, width, height in pixels, whether there is an object, a score for each class
    v8   N×(4+C)×P   the same without the fifth; also of v9 to v11

https://docs.ultralytics.com/modes/export/. Scores are 0..1 already; a v5 object's score is that of its class times the
fifth number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams
from hams_agents.tasks.decoding import MAX_CANDIDATES, Selection, best, choose, pick
from hams_shared.errors import TaskError


class YoloParams(TaskParams):
    """Parameters of ``type: yolo``."""

    version: Literal["v5", "v8"] = Field("v8", description="the layout of the output; v8 also for v9 to v11")
    labels: tuple[str, ...] = Field(min_length=1, description="in the order of the network's classes")
    only: tuple[str, ...] = Field((), description="labels wanted; empty: all")
    threshold: float = Field(0.4, gt=0, lt=1, description="least score of an object")
    iou: float = Field(0.5, gt=0, lt=1, description="of two boxes of one class that overlap more, the lower score goes")
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(200, ge=1, le=MAX_CANDIDATES, description="most objects per image, the best scores first")
    output: str | None = Field(None, description="name of the output; not needed when there is one only")


class Yolo:
    """Finds objects of one or more classes; a box has the one class that fits best."""

    Params: ClassVar[type[TaskParams]] = YoloParams

    def __init__(self, params: YoloParams, context: TaskContext) -> None:
        unknown = set(params.only) - set(params.labels)
        if unknown:
            raise TaskError(f"task yolo: only names what labels does not: {', '.join(sorted(unknown))}")
        self._params = params
        self._size = np.array(context.input.size, np.float64)
        wanted = params.only or params.labels
        names = {number: name for number, name in enumerate(params.labels) if name in wanted}
        self._classes = np.array(sorted(names))
        self._choice = Selection(names, params.iou, params.min_size, params.max_objects)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        values = pick(outputs, self._params.output, "yolo")
        classes = len(self._params.labels)
        width = classes + (5 if self._params.version == "v5" else 4)
        axis = 2 if self._params.version == "v5" else 1
        if values.ndim != 3 or values.shape[0] != len(to_frame) or values.shape[axis] != width:
            shape = "×".join(map(str, values.shape))
            form = f"P×{width}" if axis == 2 else f"{width}×P"
            raise TaskError(
                f"task yolo: the output is {shape}, expected {len(to_frame)}×{form} for {classes} labels",
                "check version and labels",
            )
        rows = values.astype(np.float32, copy=False)
        if axis == 1:
            rows = rows.transpose(0, 2, 1)
        return [self._image(rows[i], affine, frame_size) for i, affine in enumerate(to_frame)]

    def _image(self, raw: NDArray[np.float32], affine: Affine, frame_size: tuple[int, int] | None) -> list[Detected]:
        least = self._params.threshold
        if self._params.version == "v5":
            hopeful = np.flatnonzero(raw[:, 4] >= least)  # no class can make more of it
            chances = raw[hopeful, 5:] * raw[hopeful, 4:5]
        else:
            hopeful = np.flatnonzero(raw[:, 4:].max(axis=1) >= least)
            chances = raw[hopeful, 4:]
        numbers = chances.argmax(axis=1)
        scores = chances[np.arange(len(hopeful)), numbers].astype(np.float64)
        likely = np.flatnonzero((scores >= least) & np.isin(numbers, self._classes))
        likely = likely[best(scores[likely], MAX_CANDIDATES)]
        boxes = raw[hopeful[likely], :4].astype(np.float64)
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        corners, points = np.concatenate((middle - half, middle + half), axis=1), np.empty((len(likely), 0, 2))
        return choose(corners, points, scores[likely], self._choice, self._size, affine, frame_size, numbers[likely])
