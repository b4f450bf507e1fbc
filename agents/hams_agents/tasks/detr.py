"""Detectors with a transformer that give one box per object, so that none is suppressed: DETR and its kin.

    raw       N×Q×C logits and N×Q×4 boxes (centre x, y, width, height in parts of the input's sides): DETR, RT-DETR,
              D-FINE, DEIM as Hugging Face exports them (logits, pred_boxes), RF-DETR (dets, labels)
    deployed  N×M labels, N×M×4 boxes (x0, y0, x1, y1), N×M scores: RT-DETR, D-FINE, DEIM by their own export, whose
              second input `orig_target_sizes` is what the boxes are scaled to
    rows      N×Q×(4+C) boxes as in raw, and scores: RT-DETR as Ultralytics exports it

With `activation: sigmoid` each class of a query is a candidate of its own, as focal loss trains it; with `softmax` a
query has its best class, and the last one is `no object` (the original DETR, Conditional DETR's kin have sigmoid).
A further output N×Q×h×w holds logits of masks over the whole input (RF-DETR's segmentation, RT-DETRv2's).

Sources: https://github.com/lyuwenyu/RT-DETR (rtdetr_postprocessor.py), https://github.com/Peterande/D-FINE
(dfine/postprocessor.py, tools/deployment/export_onnx.py), https://github.com/roboflow/rf-detr (models/postprocess.py),
``post_process_object_detection`` in https://github.com/huggingface/transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import MAX_CANDIDATES, Selection, best, over_threshold, placed, softmax
from hams_agents.tasks.families import fit, meant
from hams_agents.tasks.input import compose, invert, scaling
from hams_agents.tasks.masks import Part, sampled, shifted, windows
from hams_agents.tasks.names import labels_of, wanted
from hams_shared.errors import TaskError

Boxes = Literal["auto", "unit", "input", "frame"]


class DetrParams(TaskParams):
    """Parameters of ``type: detr``."""

    labels: dict[int, str] | tuple[str, ...] = Field(
        (),
        description="names by class number, only those wanted; or of all classes in order; none: the file's metadata",
    )
    only: tuple[str, ...] = Field((), description="labels wanted; empty: all")
    threshold: float = Field(0.4, gt=0, lt=1, description="least score of an object")
    activation: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="what makes scores of the numbers; none given: sigmoid for raw, none for others"
    )
    boxes: Boxes = Field(
        "auto",
        description="parts of the input's sides (unit), pixels of the input, or those of the frame that it "
        "shows; auto: unit, and for deployed input: feed orig_target_sizes with the input's size",
    )
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(300, ge=1, le=MAX_CANDIDATES, description="most objects per image, the best scores first")
    outputs: tuple[str, str] | None = Field(
        None, description="raw: names of boxes and logits, where their shapes do not distinguish them"
    )


@dataclass(frozen=True)
class _Read:
    """The outputs in one form, for all images."""

    form: Literal["raw", "deployed", "rows"]
    boxes: NDArray[np.generic]
    """N×Q×4."""
    scores: NDArray[np.generic]
    """N×Q×C, or N×Q in the form deployed."""
    classes: NDArray[np.generic] | None = None
    """N×Q, of the form deployed."""
    masks: NDArray[np.generic] | None = None
    """N×Q×h×w logits."""


class Detr:
    """Finds objects, each as one box; with masks where the network gives them."""

    Params: ClassVar[type[TaskParams]] = DetrParams
    image_pixels: ClassVar[bool] = True
    """Of the form deployed: the network may be fed the image's size, and then gives boxes in its pixels."""
    layout: ClassVar[str] = "one box per object: logits and boxes, or labels, boxes and scores, as DETR and its kin"

    def __init__(self, params: DetrParams, context: TaskContext) -> None:
        labels = labels_of("detr", params.labels, context)
        if params.boxes == "frame" and context.input.fit != "stretch":
            raise TaskError(
                "task detr: boxes: frame needs input fit: stretch, since the network knows nothing of the padding",
                "feed orig_target_sizes with the input's size, and set boxes: input",
            )
        self._params = params
        self._context = context
        self._count = max(labels) + 1 if isinstance(labels, dict) else len(labels)
        self._exact = not isinstance(labels, dict)
        names = dict(labels) if isinstance(labels, dict) else dict(enumerate(labels))
        self._names = wanted("detr", names, params.only)
        self._classes = np.array(sorted(self._names))
        self._choice = Selection(self._names, None, params.min_size, params.max_objects)
        self._size = np.array(context.input.size, np.float64)
        self._in_image = context.pixels == "image"

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fit("detr", outputs, input, metadata)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        read = self._read(outputs, len(to_frame))
        return [self._image(read, index, affine, frame_size) for index, affine in enumerate(to_frame)]

    def _read(self, outputs: Outputs, count: int) -> _Read:
        """Return the outputs by their meaning. Raises TaskError: they are of no form."""
        values = dict(outputs)
        masks = [name for name, value in values.items() if value.ndim == 4]
        mask = values.pop(masks[0]) if len(masks) == 1 else None
        read = self._forms(values, mask)
        if read is None or len(read.boxes) != count:
            raise self._misfit(outputs)
        if self._in_image and (read.form != "deployed" or read.masks is not None):
            raise TaskError(
                "task detr: the network is fed the size of the image, but its boxes or masks are parts of the input",
                "feed it the input's size: input_wh",
            )
        classes = 0 if read.form == "deployed" else read.scores.shape[2] - (self._params.activation == "softmax")
        if read.form != "deployed" and (classes < self._count or (classes > self._count and self._exact)):
            hint = "give a name for each, in order, or number: name for those wanted"
            if classes == self._count + 1:
                hint += ", or activation: softmax where the last one is no object"
            if elsewhere := meant(outputs, self._context.input.size, "detr"):
                hint += f"; these outputs may be those of task {elsewhere}"
            raise TaskError(f"task detr: the network has {classes} classes, labels has {self._count}", hint)
        return read

    def _forms(self, values: dict[str, NDArray[np.generic]], mask: NDArray[np.generic] | None) -> _Read | None:
        threes = {name: value for name, value in values.items() if value.ndim == 3}
        twos = [value for value in values.values() if value.ndim == 2]
        if self._params.outputs is not None:
            boxes, scores = (values.get(name) for name in self._params.outputs)
            if boxes is None or scores is None or not boxes.ndim == scores.ndim == 3:
                return None
            fits = boxes.shape[2] == 4 and boxes.shape[:2] == scores.shape[:2]
            return _Read("raw", boxes, scores, None, mask) if fits else None
        if len(threes) == len(values) == 1:
            (rows,) = threes.values()
            return _Read("rows", rows[:, :, :4], rows[:, :, 4:]) if rows.shape[2] > 4 and mask is None else None
        if len(threes) == len(values) == 2:
            boxes, scores = self._boxes_first(threes)
            return _Read("raw", boxes, scores, None, mask) if boxes.shape[:2] == scores.shape[:2] else None
        if len(threes) == 1 and len(twos) == 2 and len(values) == 3:
            (boxes,) = threes.values()
            whole = [value.dtype.kind in "iu" for value in twos]
            labels, scores = twos if whole[0] or not whole[1] else twos[::-1]
            fits = boxes.shape[2] == 4 and labels.shape == scores.shape == boxes.shape[:2]
            return _Read("deployed", boxes, scores, labels, mask) if fits else None
        return None

    def _boxes_first(self, threes: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """Return boxes before logits: boxes have four numbers; where both have, their name says it."""
        (first, one), (second, other) = threes.items()
        if one.shape[2] == other.shape[2] == 4:
            named = ["box" in name.lower() or name.lower() == "dets" for name in (first, second)]
            if named[0] == named[1]:
                raise TaskError(
                    f"task detr: outputs {first} and {second} could both be the boxes",
                    "name them: outputs: [boxes, logits]",
                )
            return [one, other] if named[0] else [other, one]
        if 4 not in (one.shape[2], other.shape[2]):
            raise self._misfit(threes)
        return [one, other] if one.shape[2] == 4 else [other, one]

    def _misfit(self, outputs: Outputs) -> TaskError:
        shapes = ", ".join(f"{name} {'×'.join(map(str, value.shape))}" for name, value in outputs.items())
        elsewhere = meant(outputs, self._context.input.size, "detr")
        return TaskError(
            f"task detr: the outputs are {shapes}, expected N×Q×C logits and N×Q×4 boxes, or labels, boxes and scores",
            f"these outputs may be those of task {elsewhere}" if elsewhere else "",
        )

    def _image(self, read: _Read, index: int, to_frame: Affine, frame_size: tuple[int, int] | None) -> list[Detected]:
        rows, classes, scores = self._likely(read, index)
        corners = self._corners(read, read.boxes[index][rows].astype(np.float64), to_frame)
        limits = np.array([np.inf, np.inf]) if self._in_image else self._size
        kept, boxes = placed(corners, scores, self._choice, limits, to_frame, frame_size, classes)
        found = [
            Detected((box[0], box[1], box[2], box[3]), score, self._names[number])
            for box, score, number in zip(boxes.tolist(), scores[kept].tolist(), classes[kept].tolist(), strict=True)
        ]
        if read.masks is None:
            return found
        maps = read.masks[index][rows[kept]].astype(np.float32)
        onto = compose(scaling(*(maps.shape[:0:-1] / self._size)), invert(to_frame))
        there = windows(onto, [one.box for one in found], maps.shape[1:])
        parts = [
            Part(values[window], shifted(onto, window), one.box)
            for one, values, window in zip(found, maps, there, strict=True)
        ]
        return [replace(one, mask=mask) for one, mask in zip(found, sampled(parts, 0.0), strict=True)]

    def _likely(self, read: _Read, index: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Return queries, classes and scores of the candidates over the threshold."""
        least = self._params.threshold
        values = read.scores[index]
        if read.classes is not None:
            scores = values.astype(np.float64)
            classes = read.classes[index].astype(np.intp)
            rows = np.flatnonzero((scores >= least) & np.isin(classes, self._classes))
            strange = classes[scores >= least]
            if self._exact and len(strange) and not 0 <= strange.max() < self._count:
                raise TaskError(
                    f"task detr: the network found class {strange.max()}, labels has {self._count}",
                    "give all of the network's classes, in its order, or number: name",
                )
            return rows, classes[rows], scores[rows]
        activation = self._params.activation or ("none" if read.form == "rows" else "sigmoid")
        if activation != "softmax":
            return over_threshold(values, self._classes, activation, least)
        chances = softmax(values.astype(np.float32))[:, :-1]
        classes = chances.argmax(axis=1)
        scores = chances.max(axis=1).astype(np.float64)
        rows = np.flatnonzero((scores >= least) & np.isin(classes, self._classes))
        rows = rows[best(scores[rows], MAX_CANDIDATES)]
        return rows, classes[rows], scores[rows]

    def _corners(self, read: _Read, boxes: NDArray[np.float64], to_frame: Affine) -> NDArray[np.float64]:
        """Return K×4 corners in what `to_frame` maps: pixels of the input, or of the image that the network knows."""
        unit: Boxes = "input" if self._in_image else self._params.boxes
        if read.form != "deployed":
            middle, half = boxes[:, :2], boxes[:, 2:] / 2
            boxes = np.concatenate((middle - half, middle + half), axis=1)
        if unit == "auto":
            unit = "input" if read.form == "deployed" else "unit"
        if unit == "unit":
            return boxes * np.tile(self._size, 2)
        if unit == "frame":  # fit: stretch: the input is the image in another size
            sides: NDArray[np.float64] = np.hypot(to_frame[0, :2], to_frame[1, :2])
            return boxes / np.tile(sides, 2)
        return boxes
