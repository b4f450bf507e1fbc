"""RetinaFace: boxes with points, by prior boxes. Faces with five points, licence plates with their four corners.

Deng, Guo, Ververas, Kotsia, Zafeiriou, *RetinaFace: Single-stage Dense Face Localisation in the Wild*, CVPR 2020
(https://arxiv.org/abs/1905.00641); decoding as in https://github.com/biubug6/Pytorch_Retinaface. Level k covers the
input with square priors of ``min_sizes[k]`` pixels about the centres of cells of ``steps[k]`` pixels: cells row by row,
in each the sizes in turn. For a prior with centre p and side s, and variances v, the network's numbers mean

    box's centre = p + loc[0:2] v0 s,  its sides = s exp(loc[2:4] v1),  point j = p + mark[j] v0 s
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import MAX_CANDIDATES, Selection, best, choose, did_you_mean
from hams_shared.errors import TaskError

MAX_LOG_SCALE = 10.0

Size = Annotated[float, Field(gt=0)]


class RetinaFaceParams(TaskParams):
    """Parameters of ``type: retinaface``; the defaults are those of the published face networks."""

    points: int = Field(5, ge=0, le=100, description="points per object; 0: the network has none")
    order: tuple[int, ...] = Field(
        (), description="the network's points, counted from 0, in the order wanted; empty: as they come"
    )
    min_sizes: tuple[tuple[Size, ...], ...] = Field(
        ((16, 32), (64, 128), (256, 512)), min_length=1, description="per level: sides of its priors, pixels"
    )
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field((8, 16, 32), description="per level: pixels per cell")
    variances: tuple[Size, Size] = (0.1, 0.2)
    activation: Literal["none", "softmax", "sigmoid"] = Field(
        "none", description="none: the scores are probabilities already"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="least score of an object")
    iou: float = Field(0.4, gt=0, lt=1, description="of two boxes that overlap more, the lower score goes")
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(200, ge=1, le=MAX_CANDIDATES, description="most objects per image, the best scores first")
    label: str = Field("face", min_length=1)
    outputs: tuple[str, ...] | None = Field(
        None, description="names of boxes, scores and, with points, points; none: the network's own order"
    )

    @model_validator(mode="after")
    def _fits(self) -> RetinaFaceParams:
        if len(self.min_sizes) != len(self.steps) or not all(self.min_sizes):
            raise ValueError("each level needs its sides in min_sizes and its number in steps")
        if self.order and sorted(set(self.order)) != sorted(self.order):
            raise ValueError("order has a point twice")
        if self.order and not all(0 <= index < self.points for index in self.order):
            raise ValueError(f"order counts points from 0 to {self.points - 1}")
        wanted = 3 if self.points else 2
        if self.outputs is not None and len(self.outputs) != wanted:
            raise ValueError(f"outputs names {wanted} tensors: boxes, scores{', points' if self.points else ''}")
        return self


class RetinaFace:
    """Points come in the network's own order, or in `order`."""

    Params: ClassVar[type[TaskParams]] = RetinaFaceParams
    layout: ClassVar[str] = "boxes, scores and points for each prior box"

    def __init__(self, params: RetinaFaceParams, context: TaskContext) -> None:
        self._params = params
        self._size = np.array(context.input.size, np.float64)
        self._centres, self._sides = priors(context.input.size, params.min_sizes, params.steps)
        self._choice = Selection({0: params.label}, params.iou, params.min_size, params.max_objects)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        widths = [one.shape[-1] if len(one.shape) == 3 else None for one in outputs]
        if len(outputs) not in (2, 3) or sorted(width or 0 for width in widths)[:2] not in ([1, 4], [2, 4]):
            return None
        boxes = outputs[widths.index(4)]
        scores = next(one for one, width in zip(outputs, widths, strict=True) if width in (1, 2))
        marks = [one for one in outputs if one not in (boxes, scores)]
        points = (marks[0].shape[-1] or 1) if marks else 0
        size, count = layouts.image_size(input), boxes.shape[1]
        if points % 2 or len({one.shape[1] for one in outputs}) != 1:
            return None
        if count is None or size is None:
            return None if not marks else _named(boxes, scores, marks, points // 2)
        default = cls.Params.model_validate({})
        assert isinstance(default, RetinaFaceParams)
        expected = len(priors(size, default.min_sizes, default.steps)[1])
        return _named(boxes, scores, marks, points // 2) if count == expected else None

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        boxes, classes, marks = self._tensors(outputs, len(to_frame))
        scores = self._scores(classes)
        return [self._image(boxes[i], scores[i], marks[i], affine, frame_size) for i, affine in enumerate(to_frame)]

    def _tensors(self, outputs: Outputs, count: int) -> list[NDArray[np.generic]]:
        """Return boxes N×P×4, scores N×P×(1 or 2) and points N×P×2K, checked."""
        names = self._params.outputs or tuple(outputs)
        for name in names:
            if name not in outputs:
                raise TaskError(f"task retinaface: the network has no output {name!r}", did_you_mean(name, outputs))
        tensors = [outputs[name] for name in names]
        found = [tensor.shape for tensor in tensors]
        last = [4, 2] + [2 * self._params.points] * (self._params.points > 0)
        expected = [(count, len(self._sides), width) for width in last]
        one_class = [*expected[:1], (count, len(self._sides), 1), *expected[2:]]
        if found not in (expected, one_class):
            raise TaskError(
                f"task retinaface: the outputs are {found}, expected {expected}",
                "check input size, min_sizes, steps and points, and name the outputs with `outputs`",
            )
        if len(tensors) == 2:
            tensors.append(np.empty((count, len(self._sides), 0), np.float32))
        return tensors

    def _scores(self, classes: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return N×P scores, from one class or from background and object."""
        values = classes.astype(np.float64)
        if self._params.activation == "none":
            return values[:, :, -1]
        if self._params.activation == "softmax" and values.shape[2] == 2:
            return 0.5 * (1 + np.tanh((values[:, :, 1] - values[:, :, 0]) / 2))
        return 0.5 * (1 + np.tanh(values[:, :, -1] / 2))

    def _image(
        self,
        boxes: NDArray[np.generic],
        scores: NDArray[np.float64],
        marks: NDArray[np.generic],
        affine: Affine,
        frame_size: tuple[int, int] | None,
    ) -> list[Detected]:
        chosen = np.flatnonzero(scores >= self._params.threshold)
        chosen = chosen[best(scores[chosen], MAX_CANDIDATES)]
        if not len(chosen):
            return []
        move, grow = self._params.variances
        centres, sides = self._centres[chosen], self._sides[chosen, None]
        loc = boxes[chosen].astype(np.float64)
        middle = centres + loc[:, :2] * move * sides
        half = sides * np.exp(np.minimum(loc[:, 2:] * grow, MAX_LOG_SCALE)) / 2
        points = marks[chosen].astype(np.float64).reshape(len(chosen), -1, 2)
        points = centres[:, None] + points * move * sides[:, None]
        if self._params.order:
            points = points[:, list(self._params.order)]
        found = np.concatenate((middle - half, middle + half), axis=1)
        return choose(found, points, scores[chosen], self._choice, self._size, affine, frame_size)


def _named(boxes: TensorInfo, scores: TensorInfo, marks: Sequence[TensorInfo], points: int) -> dict[str, Any]:
    names = [one.name for one in (boxes, scores, *marks)]
    return {**({} if points == 5 else {"points": points}), "outputs": names}


def priors(
    size: tuple[int, int], min_sizes: Sequence[Sequence[float]], steps: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the priors' centres (P×2: x, y) and sides (P), pixels of an input of `size` (width, height)."""
    centres: list[NDArray[np.float64]] = []
    sides: list[NDArray[np.float64]] = []
    for lengths, step in zip(min_sizes, steps, strict=True):
        columns, rows = (-(-side // step) for side in size)
        y, x = np.divmod(np.arange(rows * columns), columns)
        centres.append(np.repeat((np.column_stack((x, y)) + 0.5) * step, len(lengths), axis=0))
        sides.append(np.tile(np.asarray(lengths, np.float64), rows * columns))
    return np.concatenate(centres), np.concatenate(sides)
