"""Single-shot detectors whose candidates are still to be decoded: boxes relative to anchors, and scores by class.

Liu et al., *SSD: Single Shot MultiBox Detector*, 2016 (https://arxiv.org/abs/1512.02325). Two ways to write a box:

    tensorflow: y, x, h, w with  centre = anchor + (x, y) w_a / v0,  side = side_a exp(w / v1)
    mediapipe:  x, y, w, h in pixels of the input from the anchor's centre, then as many points x, y
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.anchors import Anchors, MediapipeAnchors, TensorFlowAnchors, known_anchors
from hams_agents.tasks.base import Affine, Detected, Outputs, Reads, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import MAX_CANDIDATES, Activation, Selection, choose, did_you_mean, over_threshold
from hams_shared.errors import TaskError

MAX_LOG_SCALE = 10.0


class SsdParams(TaskParams):
    """Parameters of ``type: ssd``."""

    anchors: Anchors
    labels: dict[int, str] | tuple[str, ...] = Field(
        min_length=1, description="names by class number, only those wanted; or of all classes in order"
    )
    background: bool = Field(True, description="class 0 is background: names in order begin with class 1")
    activation: Activation = Field("sigmoid", description="what makes scores of the numbers")
    threshold: float = Field(0.5, gt=0, lt=1, description="least score of an object")
    iou: float = Field(0.5, gt=0, lt=1, description="of two boxes of one class that overlap more, the lower score goes")
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(200, ge=1, le=MAX_CANDIDATES, description="most objects per image, the best scores first")
    order: tuple[int, ...] = Field(
        (), description="the network's points, counted from 0, in the order wanted; empty: as they come"
    )
    outputs: tuple[str, str] | None = Field(
        None, description="names of boxes and scores; needed where the numbers per anchor do not distinguish them"
    )

    @model_validator(mode="after")
    def _fits(self) -> SsdParams:
        if isinstance(self.labels, dict) and min(self.labels) < int(self.background):
            raise ValueError(f"labels: classes count from {int(self.background)}")
        if self.order and not isinstance(self.anchors, MediapipeAnchors):
            raise ValueError("order: only networks with anchors of style mediapipe have points")
        return self

    def names(self) -> dict[int, str]:
        """Names by class number."""
        if isinstance(self.labels, dict):
            return dict(self.labels)
        return {index + int(self.background): name for index, name in enumerate(self.labels)}


class Ssd:
    """Finds objects of one or more classes; BlazeFace has points, too."""

    Params: ClassVar[type[TaskParams]] = SsdParams
    layout: ClassVar[str] = "boxes relative to anchors, and scores of classes for each"

    def __init__(self, params: SsdParams, context: TaskContext) -> None:
        self._params = params
        self._size = np.array(context.input.size, np.float64)
        self._anchors = params.anchors.boxes(context.input.size)
        names = params.names()
        self._classes = np.array(sorted(names))
        self._choice = Selection(names, params.iou, params.min_size, params.max_objects)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        flat = [(one, tuple(s for i, s in enumerate(one.shape) if i != 2 or s != 1)) for one in outputs]
        flat = [(one, shape if len(one.shape) == 4 else one.shape) for one, shape in flat]
        size = layouts.image_size(input)
        if len(flat) != 2 or size is None or any(len(shape) != 3 for _, shape in flat):
            return None
        for (boxes, at), (scores, of) in (flat, flat[::-1]):
            known = known_anchors(at[1], at[2], of[2], size)
            if known is not None and at[1] == of[1]:
                twice = {"outputs": [boxes.name, scores.name]} if of[2] is not None and of[2] >= 4 else {}
                return {**known, **twice}
        return None

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        boxes, scores = self._tensors(outputs, len(to_frame))
        return [self._image(boxes[i], scores[i], affine, frame_size) for i, affine in enumerate(to_frame)]

    def reads(self, outputs: Outputs) -> Reads:
        """Only the scores of the wanted classes, if no softmax couples them."""
        _, scores = self._tensors(outputs, next(iter(outputs.values())).shape[0])
        classes = None if self._params.activation == "softmax" else self._classes.tolist()
        names = self._params.outputs or tuple(outputs)
        return {name: classes if outputs[name] is scores else None for name in names}

    def _tensors(self, outputs: Outputs, count: int) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """Return boxes N×P×(4 or more) and scores N×P×C, checked."""
        total = len(self._anchors)
        names = self._params.outputs or tuple(outputs)
        for name in names:
            if name not in outputs:
                raise TaskError(f"task ssd: the network has no output {name!r}", did_you_mean(name, outputs))
        if len(names) != 2:
            raise TaskError(
                f"task ssd: the network has {len(names)} outputs",
                f"name those of boxes and scores with `outputs`: {', '.join(outputs)}",
            )
        tensors = [outputs[name] for name in names]
        shapes = " and ".join("×".join(map(str, tensor.shape)) for tensor in tensors)
        # TensorFlow's box coder leaves an axis of length 1: N×P×1×4.
        tensors = [t[:, :, 0] if t.ndim == 4 and t.shape[2] == 1 else t for t in tensors]
        if self._params.outputs is None:
            tensors = self._distinguished(tensors, shapes)
        boxes, scores = tensors
        points = boxes.shape[-1] - 4
        if (
            any(t.ndim != 3 or t.shape[:2] != (count, total) for t in tensors)
            or points < 0
            or points % 2
            or (points and isinstance(self._params.anchors, TensorFlowAnchors))
        ):
            raise TaskError(
                f"task ssd: the outputs are {shapes}, expected {count}×{total}×4 boxes and {count}×{total}×C scores",
                "check the anchors' cells",
            )
        if scores.shape[2] <= self._classes[-1]:
            raise TaskError(f"task ssd: the network knows {scores.shape[2]} classes, not number {self._classes[-1]}")
        if any(2 * index >= points for index in self._params.order):
            raise TaskError(f"task ssd: order names a point beyond the network's {points // 2}")
        return boxes, scores

    def _distinguished(self, tensors: list[NDArray[np.generic]], shapes: str) -> list[NDArray[np.generic]]:
        """Return boxes before scores: boxes have four numbers per anchor, with points more, and those come in pairs."""
        pairs = isinstance(self._params.anchors, MediapipeAnchors)
        likely = [n >= 4 and n % 2 == 0 if pairs else n == 4 for n in (t.shape[-1] for t in tensors)]
        if all(likely):
            raise TaskError(
                f"task ssd: the outputs are {shapes}: either could be the boxes", "name them: outputs: [boxes, scores]"
            )
        return tensors[::-1] if likely[1] else tensors

    def _image(
        self,
        boxes: NDArray[np.generic],
        raw: NDArray[np.generic],
        affine: Affine,
        frame_size: tuple[int, int] | None,
    ) -> list[Detected]:
        row, classes, scores = over_threshold(raw, self._classes, self._params.activation, self._params.threshold)
        if not len(row):
            return []
        corners, points = self._decode(boxes[row].astype(np.float64), self._anchors[row])
        return choose(corners, points, scores, self._choice, self._size, affine, frame_size, classes)

    def _decode(
        self, values: NDArray[np.float64], anchors: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return K×4 corners and K×M×2 points, pixels of the input."""
        family = self._params.anchors
        middle = anchors[:, :2] * self._size
        if isinstance(family, MediapipeAnchors):
            points = middle[:, None] + values[:, 4:].reshape(len(values), -1, 2)
            if self._params.order:
                points = points[:, list(self._params.order)]
            middle = middle + values[:, :2]
            half = values[:, 2:4] / 2
        else:
            sides = anchors[:, 2:] * self._size
            move, grow = family.variances
            middle = middle + values[:, [1, 0]] / move * sides
            half = sides * np.exp(np.minimum(values[:, [3, 2]] / grow, MAX_LOG_SCALE)) / 2
            points = np.empty((len(values), 0, 2))
        return np.concatenate((middle - half, middle + half), axis=1), points
