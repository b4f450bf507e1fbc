"""CenterFace: faces with five points, without anchors.

Xu, Yan, Sun, Yang, Luo, *CenterFace: Joint Face Detection and Alignment Using Face as Point*, 2019
(https://arxiv.org/abs/1911.03599); decoding as in https://github.com/Star-Clouds/CenterFace. Four outputs at a
quarter of the input's size: heat map N×1, log scale N×2 (h, w), offset N×2 (y, x), landmarks N×10 (y, x in turn,
in units of the box). For cell (r, c) the centre is ``(c + offset_x + 0.5) * 4`` and the width ``4 exp(scale_w)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import MAX_CANDIDATES, Selection, best, choose, did_you_mean
from hams_shared.errors import TaskError

STRIDE = 4
CHANNELS = (1, 2, 2, 10)
MAX_LOG_SCALE = 10.0


class CenterFaceParams(TaskParams):
    """Parameters of ``type: centerface``."""

    threshold: float = Field(0.5, gt=0, lt=1, description="least score of a face")
    iou: float = Field(0.3, gt=0, lt=1, description="of two boxes that overlap more, the lower score goes")
    min_size: float = Field(0, ge=0, description="least side of a face, pixels of the network's input")
    max_objects: int = Field(200, ge=1, le=MAX_CANDIDATES, description="most faces per image, the best scores first")
    label: str = Field("face", min_length=1)
    outputs: tuple[str, str, str, str] | None = Field(
        None, description="names of heat map, scale, offset and landmarks; none: the network's own order"
    )


class CenterFace:
    """Points are, in the image: left eye, right eye, nose, left and right corner of the mouth."""

    Params: ClassVar[type[TaskParams]] = CenterFaceParams
    layout: ClassVar[str] = "heat map, scale, offset and five points at a quarter of the size"

    def __init__(self, params: CenterFaceParams, context: TaskContext) -> None:
        width, height = context.input.size
        if width % 32 or height % 32:
            raise TaskError(f"task centerface: the input's sides must be multiples of 32, not {width}×{height}")
        self._params = params
        self._size = np.array([width, height], np.float64)
        self._choice = Selection({0: params.label}, params.iou, params.min_size, params.max_objects)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        if len(outputs) != 4 or any(len(one.shape) != 4 for one in outputs):
            return None
        order = sorted(outputs, key=lambda one: CHANNELS.index(one.shape[1]) if one.shape[1] in CHANNELS else 0)
        size = layouts.image_size(input)
        sides = None if size is None else (size[1] // STRIDE, size[0] // STRIDE)
        right = all(
            one.shape[1] == channels and (sides is None or None in one.shape or one.shape[2:] == sides)
            for one, channels in zip(order, CHANNELS, strict=True)
        )
        if not right:
            return None
        return {} if order == list(outputs) else {"outputs": [one.name for one in order]}

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        tensors = self._tensors(outputs, len(to_frame))
        return [self._image([t[i] for t in tensors], affine, frame_size) for i, affine in enumerate(to_frame)]

    def _tensors(self, outputs: Outputs, count: int) -> list[NDArray[np.generic]]:
        """Return heat map, scale, offset, landmarks, checked."""
        names = self._params.outputs or tuple(outputs)
        for name in names:
            if name not in outputs:
                raise TaskError(f"task centerface: the network has no output {name!r}", did_you_mean(name, outputs))
        tensors = [outputs[name] for name in names]
        rows, columns = (int(side) // STRIDE for side in self._size[::-1])
        expected = [(count, channels, rows, columns) for channels in CHANNELS]
        found = [tensor.shape for tensor in tensors]
        if found != expected:
            raise TaskError(f"task centerface: the outputs are {found}, expected {expected}")
        return tensors

    def _image(
        self, tensors: list[NDArray[np.generic]], affine: Affine, frame_size: tuple[int, int] | None
    ) -> list[Detected]:
        heat = tensors[0][0]
        cells = np.flatnonzero(heat >= self._params.threshold)
        if not len(cells):
            return []
        scores = heat.ravel()[cells].astype(np.float64)
        if len(cells) > MAX_CANDIDATES:
            first = best(scores, MAX_CANDIDATES)
            cells, scores = cells[first], scores[first]
        row, column = np.unravel_index(cells, heat.shape)
        scale, offset, marks = (t[:, row, column].astype(np.float64).T for t in tensors[1:])
        sides = np.exp(np.minimum(scale[:, ::-1], MAX_LOG_SCALE)) * STRIDE
        low = (np.column_stack((column, row)) + offset[:, ::-1] + 0.5) * STRIDE - sides / 2
        boxes = np.concatenate((low, low + sides), axis=1)
        points = low[:, None] + marks.reshape(-1, 5, 2)[:, :, ::-1] * sides[:, None]
        return choose(boxes, points, scores, self._choice, self._size, affine, frame_size)
