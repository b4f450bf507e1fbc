"""YOLO detectors, in the forms that :mod:`hams_agents.tasks.yolo_forms` describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.families import fit
from hams_agents.tasks.yolo_forms import Version
from hams_agents.tasks.yolo_head import Found, Head, HeadParams
from hams_shared.errors import TaskError

GATHERED = ("nas", "nms", "v7-end2end")
"""Forms that are brought into one of the others: they have several outputs, or another order of columns."""


class YoloParams(HeadParams):
    """Parameters of ``type: yolo``."""


class Yolo:
    """Finds objects of one or more classes; a box has the one class that fits best."""

    Params: ClassVar[type[TaskParams]] = YoloParams
    layout: ClassVar[str] = (
        "boxes with a score per class, or rows of x0, y0, x1, y1, score, class, as YOLO exports them"
    )

    def __init__(self, params: YoloParams, context: TaskContext) -> None:
        self._params = params
        self._head = Head("yolo", params, context)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fit("yolo", outputs, input, metadata)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        version = self._params.version
        if version in GATHERED or (version == "auto" and self._params.output is None and len(outputs) in (2, 4)):
            version, outputs = _gathered(version, outputs)
        version, images = self._head.candidates(outputs, len(to_frame), version)
        if version == "yolox":
            images = [self._head.on_grid(raw) for raw in images]
        return [
            objects(self._head.find(version, raw, affine, frame_size))
            for raw, affine in zip(images, to_frame, strict=True)
        ]


def objects(found: Found) -> list[Detected]:
    """Return objects that have a box, a score and a label."""
    return [
        Detected((box[0], box[1], box[2], box[3]), score, label)
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels, strict=True)
    ]


def _gathered(version: Version, outputs: Outputs) -> tuple[Version, Outputs]:
    """Return outputs in the form nas, nms or v7-end2end as one in another form; others, of `version` auto, as they are.

    Raises:
        TaskError: they are not of `version`.
    """
    values = list(outputs.values())
    if version in ("auto", "nas") and len(values) == 2 and all(one.ndim == 3 for one in values):
        boxes, scores = values if values[0].shape[2] == 4 else values[::-1]
        if boxes.shape[2] == 4 and boxes.shape[:2] == scores.shape[:2]:
            low, high = (part.astype(np.float32) for part in (boxes[:, :, :2], boxes[:, :, 2:]))
            rows = np.concatenate(((low + high) / 2, high - low, scores), axis=2)
            return "v8", {"rows": rows.transpose(0, 2, 1)}
    if version == "v7-end2end" and len(values) == 1 and values[0].shape[-1] == 7:
        return "end2end", {"rows": values[0][..., [1, 2, 3, 4, 6, 5]]}
    if version in ("auto", "nms") and len(values) == 4:
        counts = [one for one in values if one.ndim <= 2 and one.size == len(one)]
        placed = [one for one in values if one.ndim == 3 and one.shape[2] == 4]
        lists = [one for one in values if one.ndim == 2 and len(placed) == 1 and one.shape == placed[0].shape[:2]]
        if len(placed) == len(counts) == 1 and len(lists) == 2:
            within = np.arange(placed[0].shape[1]) < counts[0].astype(np.intp).reshape(-1, 1)
            scores, classes = (one[:, :, None] for one in _scores_first(lists, outputs))
            return "end2end", {"rows": np.concatenate((placed[0], scores * within[:, :, None], classes), axis=2)}
    if version == "auto":
        return version, outputs
    shapes = ", ".join(f"{name} {'×'.join(map(str, value.shape))}" for name, value in outputs.items())
    raise TaskError(f"task yolo: the outputs are {shapes}, not those of version {version}", "correct version")


def _scores_first(lists: list[NDArray[np.generic]], outputs: Outputs) -> list[NDArray[np.generic]]:
    """Return scores before classes: classes are whole numbers, by type or by name, else they come last."""
    integral = [one.dtype.kind in "iu" for one in lists]
    if integral[0] != integral[1]:
        return lists if integral[1] else lists[::-1]
    names = [name for name, value in outputs.items() if any(value is one for one in lists)]
    return lists[::-1] if "class" in names[0] or "label" in names[0] else lists
