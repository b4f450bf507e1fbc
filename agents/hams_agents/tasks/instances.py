"""Networks that list finished objects, with masks or key points where they have them: Mask R-CNN and its kin.

    boxes    K×4 (x0, y0, x1, y1), or K×5 with the score
    labels   K numbers;  scores: K numbers
    masks    K×1×h×w or K×h×w probabilities, of the whole input (torchvision) or of the box (28×28: detectron2,
             mmdeploy, OpenVINO's instance-segmentation-*); K×C×h×w: one for each class
    points   K×P×3: x, y in the input, visibility; and K×P scores (torchvision's Keypoint R-CNN)

Each may have a batch axis before K. Sources: torchvision.models.detection (roi_heads.py: paste_masks_in_image,
keypointrcnn_inference), https://github.com/openvinotoolkit/open_model_zoo (instance-segmentation-security-1040),
https://mmdeploy.readthedocs.io (output names dets, labels, masks). Also Faster R-CNN, RetinaNet, FCOS and SSD of
torchvision, which have no masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import MAX_CANDIDATES, Selection, did_you_mean, placed, sigmoid
from hams_agents.tasks.families import SMALLEST_MASK, fit, meant
from hams_agents.tasks.input import apply, compose, invert, scaling
from hams_agents.tasks.masks import Part, sampled, shifted, windows
from hams_agents.tasks.names import labels_of, wanted
from hams_agents.tasks.skeletons import Skeleton, joined
from hams_shared.errors import TaskError

Tensor = NDArray[np.generic]
Kind = Literal["boxes", "labels", "scores", "masks", "points", "point_scores"]


class InstancesParams(TaskParams):
    """Parameters of ``type: instances``."""

    labels: dict[int, str] | tuple[str, ...] = Field(
        (),
        description="names by class number, only those wanted; or of all classes in order; none: the file's metadata",
    )
    background: bool = Field(True, description="class 0 is background: names in order begin with class 1")
    only: tuple[str, ...] = Field((), description="labels wanted; empty: all")
    threshold: float = Field(0.5, gt=0, lt=1, description="least score of an object")
    mask_threshold: float = Field(0.5, gt=0, lt=1, description="least probability of a pixel that is the object")
    boxes: Literal["input", "unit"] = Field(
        "input", description="what the boxes are measured in: pixels of the input, or parts of its sides"
    )
    masks: Literal["auto", "box", "input"] = Field(
        "auto", description="what a mask shows: its box, or the whole input; auto: the input where it has its size"
    )
    skeleton: Skeleton = Field(
        None, description="pairs of points that are joined; none: COCO's persons where there are 17"
    )
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(100, ge=1, le=MAX_CANDIDATES, description="most objects per image, the best scores first")
    outputs: dict[Kind, str] = Field(
        {},
        description="names of outputs by what they hold, where shapes and names do not tell: boxes, labels, scores …",
    )

    def names(self, labels: dict[int, str] | tuple[str, ...]) -> dict[int, str]:
        """Names by class number."""
        if isinstance(labels, dict):
            return dict(labels)
        return {index + int(self.background): name for index, name in enumerate(labels)}


@dataclass(frozen=True)
class _Read:
    """The outputs of all images, N first; None: the network has none."""

    boxes: Tensor
    """N×K×4."""
    scores: Tensor
    """N×K."""
    labels: Tensor
    """N×K."""
    masks: Tensor | None = None
    """N×K×C×h×w."""
    points: Tensor | None = None
    """N×K×P×3."""
    point_scores: Tensor | None = None
    """N×K×P."""


class Instances:
    """Finds objects, with masks and key points where the network gives them."""

    Params: ClassVar[type[TaskParams]] = InstancesParams
    layout: ClassVar[str] = "lists of boxes, labels, scores, and masks or key points, as Mask R-CNN and its kin"

    def __init__(self, params: InstancesParams, context: TaskContext) -> None:
        names = params.names(labels_of("instances", params.labels, context))
        self._params = params
        self._input = context.input.size
        self._size = np.array(context.input.size, np.float64)
        self._known = names
        self._names = wanted("instances", names, params.only)
        self._classes = np.array(sorted(self._names))
        self._choice = Selection(self._names, None, params.min_size, params.max_objects)
        self._skeleton: Skeleton = params.skeleton

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        return fit("instances", outputs, input, metadata)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        read = self._read(outputs, len(to_frame))
        return [self._image(read, index, affine, frame_size) for index, affine in enumerate(to_frame)]

    def _read(self, outputs: Outputs, count: int) -> _Read:
        """Return the outputs by their meaning. Raises TaskError: one is missing, or not for `count` images."""
        parts = self._parts(outputs)
        if "boxes" not in parts or "labels" not in parts:
            raise self._misfit(outputs)
        boxes = _with_batch(parts["boxes"], 3, count)
        scores = boxes[:, :, 4] if boxes.shape[-1] == 5 else parts.get("scores")
        if scores is None:
            raise self._misfit(outputs)
        scores, labels = _with_batch(scores, 2, count), _with_batch(parts["labels"], 2, count)
        masks, points, sure = parts.get("masks"), parts.get("points"), parts.get("point_scores")
        if masks is not None:
            masks = _with_batch(masks, 5 if masks.ndim == 5 or _has_axis(masks, boxes, count) else 4, count)
            masks = masks[:, :, None] if masks.ndim == 4 else masks
        if points is not None:
            points = _with_batch(points, 4, count)
            joined("instances", self._skeleton, points.shape[2])
        sure = None if sure is None else _with_batch(sure, 3, count)
        read = _Read(boxes[:, :, :4], scores, labels, masks, points, sure)
        if any(one is not None and one.shape[:2] != boxes.shape[:2] for one in vars(read).values()):
            raise self._misfit(outputs)
        if len(boxes) != count:
            raise self._misfit(outputs)
        return read

    def _parts(self, outputs: Outputs) -> dict[str, Tensor]:
        """Return the outputs by what they hold: as the parameters name them, else by shape, type and name."""
        parts: dict[str, Tensor] = {}
        for part, name in self._params.outputs.items():
            if name not in outputs:
                raise TaskError(f"task instances: the network has no output {name!r}", did_you_mean(name, outputs))
            parts[part] = outputs[name]
        flat: list[tuple[str, Tensor]] = []
        for name, value in outputs.items():
            if any(value is one for one in parts.values()):
                continue
            if value.ndim >= 3 and min(value.shape[-2:]) >= SMALLEST_MASK:
                parts.setdefault("masks", value)
            elif value.ndim in (2, 3) and value.shape[-1] in (4, 5) and "boxes" not in parts:
                parts["boxes"] = value
            elif value.ndim in (3, 4) and value.shape[-1] == 3:
                parts.setdefault("points", value)
            else:
                flat.append((name, value))
        _sort_flat(parts, flat)
        return parts

    def _misfit(self, outputs: Outputs) -> TaskError:
        shapes = ", ".join(f"{name} {'×'.join(map(str, value.shape))}" for name, value in outputs.items())
        elsewhere = meant(outputs, self._input, "instances")
        return TaskError(
            f"task instances: the outputs are {shapes}, expected K×4 boxes, K labels and K scores, perhaps with masks",
            f"these outputs may be those of task {elsewhere}" if elsewhere else "name them with `outputs`",
        )

    def _image(self, read: _Read, index: int, to_frame: Affine, frame_size: tuple[int, int] | None) -> list[Detected]:
        scores = read.scores[index].astype(np.float64)
        labels = read.labels[index].astype(np.intp)
        rows = np.flatnonzero((scores >= self._params.threshold) & np.isin(labels, self._classes))
        self._check(labels[scores >= self._params.threshold])
        corners = read.boxes[index][rows].astype(np.float64)
        if self._params.boxes == "unit":
            corners = corners * np.tile(self._size, 2)
        kept, boxes = placed(corners, scores[rows], self._choice, self._size, to_frame, frame_size, labels[rows])
        found = [
            Detected((box[0], box[1], box[2], box[3]), score, self._names[number])
            for box, score, number in zip(
                boxes.tolist(), scores[rows][kept].tolist(), labels[rows][kept].tolist(), strict=True
            )
        ]
        if read.masks is not None:
            found = self._with_masks(found, read.masks[index], rows[kept], labels, corners[kept], to_frame)
        return self._with_points(found, read, index, rows[kept], to_frame)

    def _check(self, labels: NDArray[np.intp]) -> None:
        """Raise TaskError when the network finds a class beyond those that are named in order."""
        if isinstance(self._params.labels, tuple) and len(labels) and labels.max() > max(self._known):
            raise TaskError(
                f"task instances: the network found class {labels.max()}, labels ends with class {max(self._known)}",
                "give all of the network's classes, in its order, or number: name; see `background`",
            )

    def _with_masks(
        self,
        found: list[Detected],
        maps: Tensor,
        rows: NDArray[np.intp],
        labels: NDArray[np.intp],
        corners: NDArray[np.float64],
        to_frame: Affine,
    ) -> list[Detected]:
        """Return objects with their masks; `corners` are their boxes in the input, `rows` their places in the lists."""
        classes, height, width = maps.shape[-3:]
        if classes > 1 and len(rows) and labels[rows].max() >= classes:
            raise TaskError(
                f"task instances: the network found class {labels[rows].max()}, and has masks for classes 0 to "
                f"{classes - 1}",
                "export it with a mask for each class, or with that of the object's own class only",
            )
        back = invert(to_frame)
        shown = self._params.masks
        whole = shown == "input" or (shown == "auto" and (width, height) == self._input)
        parts = []
        for one, row, (x0, y0, x1, y1) in zip(found, rows, corners, strict=True):
            values = maps[row, labels[row] if classes > 1 else 0]
            if whole:
                onto = compose(scaling(width / self._input[0], height / self._input[1]), back)
                [window] = windows(onto, [one.box], values.shape)
                values, onto = values[window], shifted(onto, window)
            else:
                across, down = width / (x1 - x0), height / (y1 - y0)
                onto = compose(np.array([[across, 0.0, -x0 * across], [0.0, down, -y0 * down]]), back)
            parts.append(Part(values.astype(np.float32), onto, one.box))
        masks = sampled(parts, self._params.mask_threshold, cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT)
        return [replace(one, mask=mask) for one, mask in zip(found, masks, strict=True)]

    def _with_points(
        self, found: list[Detected], read: _Read, index: int, rows: NDArray[np.intp], to_frame: Affine
    ) -> list[Detected]:
        if read.points is None:
            return found
        numbers = read.points[index][rows].astype(np.float64)
        local = numbers[:, :, :2] * (self._size if self._params.boxes == "unit" else 1.0)
        points = apply(to_frame, local)
        seen = numbers[:, :, 2].clip(0, 1)
        if read.point_scores is not None:  # Keypoint R-CNN gives logits
            seen = sigmoid(read.point_scores[index][rows].astype(np.float32)).astype(np.float64)
        return [
            replace(one, points=at, visibility=sure, skeleton=self._skeleton)
            for one, at, sure in zip(found, points, seen, strict=True)
        ]


def _sort_flat(parts: dict[str, Tensor], flat: list[tuple[str, Tensor]]) -> None:
    """Give vectors of one number per object their meaning: whole numbers are labels; else names say it."""
    sizes = {value.size for _, value in flat}
    if "points" in parts:
        per_point = [(name, value) for name, value in flat if value.size == max(sizes) and len(sizes) > 1]
        for _, value in per_point[:1]:
            parts.setdefault("point_scores", value)
            flat = [pair for pair in flat if pair[1] is not value]
    for name, value in flat:
        called = name.lower()
        is_class = value.dtype.kind in "iu" or "label" in called or "class" in called
        part = "labels" if is_class else "scores"
        parts.setdefault(part, value)


def _with_batch(value: Tensor, dims: int, count: int) -> Tensor:
    """Return `value` with a batch axis: of one image it may have none."""
    return value[None] if value.ndim == dims - 1 and count == 1 else value


def _has_axis(masks: Tensor, boxes: Tensor, count: int) -> bool:
    """Return whether masks without a batch axis, K×C×h×w, have one for classes."""
    return count == 1 and masks.ndim == 4 and masks.shape[0] == boxes.shape[1] and masks.shape[:2] != boxes.shape[:2]
