"""YOLO detectors with a mask for each object: coefficients of prototypes, as YOLACT introduced them.

A second output, N×M×h×w or N×h×w×M, holds M prototypes over the whole input; the numbers at a candidate's end are M
coefficients. An object's mask is where the prototypes times its coefficients are above 0, within its box. Bolya et al.,
*YOLACT*, 2019; https://docs.ultralytics.com/tasks/segment/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.families import PROTOTYPES, fit, meant, prototype_axis
from hams_agents.tasks.input import compose, invert, scaling
from hams_agents.tasks.masks import Part, sampled, shifted, windows
from hams_agents.tasks.yolo import objects
from hams_agents.tasks.yolo_head import Head, RichParams
from hams_shared.errors import TaskError


class YoloSegParams(RichParams):
    """Parameters of ``type: yolo-seg``."""


class YoloSeg:
    """Finds objects with masks."""

    Params: ClassVar[type[TaskParams]] = YoloSegParams
    layout: ClassVar[str] = "boxes with a score per class and coefficients, and prototypes of masks, as YOLO segments"

    def __init__(self, params: YoloSegParams, context: TaskContext) -> None:
        self._params = params
        self._context = context
        self._heads: dict[int, Head] = {}
        self._head(32)  # parameters are wrong at once

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fit("yolo-seg", outputs, input, metadata)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        prototypes = self._prototypes(outputs, len(to_frame))
        listed = {name: value for name, value in outputs.items() if value.ndim in (2, 3)}
        count, height, width = prototypes.shape[1:]
        head = self._head(count)
        version, images = head.candidates(listed, len(to_frame))
        across, down = self._context.input.size
        to_map = scaling(width / across, height / down)
        result = []
        for raw, maps, affine in zip(images, prototypes, to_frame, strict=True):
            found = head.find(version, raw, affine, frame_size)
            coefficients = raw[found.rows, -count:]
            onto = compose(to_map, invert(affine))
            here = objects(found)
            there = windows(onto, [one.box for one in here], maps.shape[1:])
            parts = [  # only under each box; not by BLAS, whose threads cost more than so few numbers
                Part(np.einsum("m,mhw->hw", row, maps[:, rows, columns]), shifted(onto, (rows, columns)), one.box)
                for one, row, (rows, columns) in zip(here, coefficients, there, strict=True)
            ]
            result.append([replace(one, mask=mask) for one, mask in zip(here, sampled(parts, 0.0), strict=True)])
        return result

    def _head(self, count: int) -> Head:
        if count not in self._heads:
            self._heads = {count: Head("yolo-seg", self._params, self._context, count)}
        return self._heads[count]

    def _prototypes(self, outputs: Outputs, count: int) -> NDArray[np.float32]:
        """Return the output that holds N×M×h×w prototypes. Raises TaskError: there is none."""
        size = self._context.input.size
        maps = [one for one in outputs.values() if one.ndim == 4 and len(one) == count]
        maps = [np.moveaxis(one, prototype_axis(one.shape, size), 1) for one in maps]
        maps = [one for one in maps if one.shape[1] in PROTOTYPES]
        if len(maps) != 1:
            shapes = ", ".join("×".join(map(str, value.shape)) for value in outputs.values())
            elsewhere = meant(outputs, size, "yolo-seg")
            raise TaskError(
                f"task yolo-seg: the outputs are {shapes}: none is {count}×M×h×w prototypes of masks",
                f"these outputs may be those of task {elsewhere}" if elsewhere else "",
            )
        return maps[0].astype(np.float32, copy=False)
