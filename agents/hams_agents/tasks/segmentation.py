"""Semantic segmentation: the class of each pixel.

Layouts as exporters write them: scores N×C×H×W (PyTorch, PaddleSeg, SegFormer: logits, often at a quarter of the
input) or N×H×W×C (TensorFlow), one channel N×1×H×W for one class and its background (U-Net), or class numbers N×H×W,
N×1×H×W or N×H×W×1 of a network that ends in an ArgMax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Detected, Outputs, Reads, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import best, only, pick, sigmoid, softmax
from hams_agents.tasks.input import boxes_through
from hams_agents.tasks.maps import Placed, Resolution, at_resolution, channels, finite, placed, png, single
from hams_shared.errors import TaskError

MAX_CLASSES = 1 << 16
MOST_LIKELY = 1000
"""Classes; an output with more channels is rather a feature map."""
SURE_OF = 512
"""Points in a region's box, on a grid, of which those in the region give its score."""
NAME = "segmentation"


class SegmentationParams(TaskParams):
    """Parameters of ``type: segmentation``."""

    labels: tuple[str, ...] = Field(min_length=2, max_length=MAX_CLASSES, description="in the order of the classes")
    background: str | None = Field(
        None, description="a label that means nothing in particular: no object, and not drawn"
    )
    layout: Literal["nchw", "nhwc"] | None = Field(
        None, description="where an output of scores has its classes; none: where there are as many as labels"
    )
    activation: Literal["softmax", "none"] = Field(
        "softmax", description="of scores (a sigmoid where there is one channel); none: they are probabilities already"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="one channel only: least probability of the second label")
    png: bool = Field(False, description="the result has the class of each pixel, as a PNG")
    resolution: Resolution = Field("network", description="of the PNG: the output's, or that of the frame")
    objects: bool = Field(False, description="connected regions become objects, for children")
    only: tuple[str, ...] = Field((), description="labels of these objects; empty: all but the background")
    min_share: float = Field(0.001, ge=0, le=1, description="least part of the image that an object covers")
    max_objects: int = Field(50, ge=1, le=1000, description="most objects per image, the largest ones")
    output: str | None = Field(None, description="name of the output; not needed when there is one only")

    @model_validator(mode="after")
    def _known(self) -> SegmentationParams:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is there twice")
        unknown = {*self.only, *([self.background] if self.background is not None else [])} - {*self.labels}
        if unknown:
            raise ValueError(f"only and background name what labels does not: {', '.join(sorted(unknown))}")
        return self


class Segmentation:
    """Describes an image as ``{"shares": {label: part of the image}}``, the largest first, without labels not seen.

    ``label`` and ``score`` are the largest one's. With `png` there is ``map``: the class of each pixel, a grey PNG of 8
    bits (16 with more than 256 labels), and ``labels``, which of its values mean what (without the background). See
    :mod:`hams_agents.tasks.maps`. With `objects` there are ``objects``: a connected region's box, label, and as its
    score the mean probability of its pixels (1 for a network that gives class numbers).
    """

    Params: ClassVar[type[TaskParams]] = SegmentationParams
    IN_FULL: ClassVar[Mapping[str, Any]] = {"png": True, "resolution": "network"}
    layout: ClassVar[str] = "the class of each pixel, as scores or as a number"
    maps = True

    def __init__(self, params: SegmentationParams, context: TaskContext) -> None:
        self._params = params
        self._size = context.input.size
        self._element = np.uint8 if len(params.labels) <= 256 else np.uint16
        wanted = params.only or [label for label in params.labels if label != params.background]
        self._wanted = {params.labels.index(label) for label in wanted}
        self.parts = params.objects

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`: one output with classes or class numbers of pixels."""
        likely = [info for info in outputs if _may_be_classes(info, input) and not _of_queries(info, outputs)]
        if not likely:
            return None
        return layouts.named(likely[0], outputs)

    def reads(self, outputs: Outputs) -> Reads:
        """Return the one output that is used."""
        return only(outputs, self._params.output, NAME)

    def describe(
        self, outputs: Outputs, to_frame: Sequence[Affine], filled: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        values = pick(outputs, self._params.output, NAME)
        if values.dtype == np.float16:  # numpy computes with it ten times slower
            values = values.astype(np.float32)
        images = self._scores(values, len(to_frame)) if values.dtype.kind == "f" else None
        if images is None:
            images = single(values, len(to_frame), NAME)
        return [self._image(one, affine, part) for one, affine, part in zip(images, to_frame, filled, strict=True)]

    def _scores(self, values: NDArray[Any], count: int) -> NDArray[Any] | None:
        """Return scores as N×C×H×W, or N×H×W×C where they come so; None: they are class numbers."""
        known = len(self._params.labels)
        layout = self._params.layout
        if values.ndim == 3 or (values.ndim == 4 and 1 in (values.shape[1], values.shape[3]) and layout is None):
            one = single(values, count, NAME)
            return one[:, None] if known == 2 and values.ndim == 4 else None
        if values.ndim != 4 or values.shape[0] != count or 0 in values.shape:
            shape = "×".join(map(str, values.shape))
            raise TaskError(
                f"task {NAME}: the output is {shape}, expected {count}×{known}×H×W, {count}×H×W×{known} or {count}×H×W",
                "name another output with `output`",
            )
        if layout is None:
            layout = "nhwc" if values.shape[1] != known and values.shape[3] == known else "nchw"
        classes = values.shape[1 if layout == "nchw" else 3]
        if classes != known:
            raise TaskError(
                f"task {NAME}: the output is {'×'.join(map(str, values.shape))}: {classes} classes, but {known} labels",
                "correct `labels`, or `layout` where the classes come last",
            )
        return values if layout == "nchw" else values.transpose(0, 3, 1, 2)

    def _image(self, raw: NDArray[Any], affine: Affine, filled: tuple[int, int]) -> dict[str, Any]:
        """Describe one image; `raw` is C×H×W scores or H×W class numbers."""
        numbers = self._numbers(raw)
        one = placed(numbers, self._size, filled, affine)
        labels = self._params.labels
        counts = np.bincount(one.values.ravel(), minlength=len(labels))
        order = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
        shares = {labels[index]: round(int(counts[index]) / one.values.size, 4) for index in order}
        item: dict[str, Any] = {"label": labels[order[0]], "score": shares[labels[order[0]]], "shares": shares}
        if self._params.png:
            shown = at_resolution(one, self._params.resolution, cv2.INTER_NEAREST)
            names = {str(i): labels[i] for i in sorted(order) if labels[i] != self._params.background}
            item["map"] = png(shown, labels=names)
        if self._params.objects:
            item["objects"] = self._regions(
                one, raw if raw.ndim == 3 else None, [i for i in order if i in self._wanted]
            )
        return item

    def _numbers(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return the class of each pixel, H×W; of equal scores the first."""
        if raw.ndim == 2:
            least, most = float(raw.min()), float(raw.max())
            if not (least >= 0 and most < len(self._params.labels)):  # also where it is not a number
                wrong = least if least < 0 else most
                raise TaskError(
                    f"task {NAME}: the network gave class {wrong:g}, labels has {len(self._params.labels)}",
                    "correct `labels`",
                )
            found = raw.astype(self._element)
            if raw.dtype.kind == "f" and not np.array_equal(found, raw):
                raise TaskError(
                    f"task {NAME}: the output is one channel, but its values are not class numbers",
                    "one channel of scores is for 2 labels (its background first), N×1×H×W",
                )
            return found
        if len(raw) == 1:
            finite(raw, NAME)
            least = self._params.threshold
            border = least if self._params.activation == "none" else float(np.log(least / (1 - least)))
            return np.asarray(raw[0] >= border, self._element)
        if raw.strides[0] == raw.itemsize:  # classes last in memory
            numbers = raw.transpose(1, 2, 0).argmax(axis=2)
            finite(np.take_along_axis(raw, numbers[None], 0), NAME)
            return np.asarray(numbers, self._element)
        best = raw.max(axis=0)  # a fifth of the time of argmax along this axis
        finite(best, NAME)
        found = np.zeros(best.shape, self._element)
        for index in range(len(raw) - 1, 0, -1):
            np.putmask(found, raw[index] == best, index)
        np.putmask(found, raw[0] == best, 0)
        return found

    def _regions(self, one: Placed, scores: NDArray[Any] | None, classes: list[int]) -> list[Detected]:
        """Return the connected regions (also diagonally) that are large enough, the largest first."""
        least, most = self._params.min_share * one.values.size, self._params.max_objects
        regions = [region for index in classes for region in _components(one.values, index, least, most)]
        regions = sorted(regions, key=lambda region: (-region.area, region.kind, region.box))[:most]
        boxes = boxes_through(one.to_frame, np.array([region.box for region in regions], np.float64).reshape(-1, 4))
        return [
            Detected((x0, y0, x1, y1), self._sure(scores, region), self._params.labels[region.kind])
            for (x0, y0, x1, y1), region in zip(boxes.tolist(), regions, strict=True)
        ]

    def _sure(self, scores: NDArray[Any] | None, region: _Region) -> float:
        """Return the mean probability of a region's class."""
        if scores is None:
            return 1.0
        rows, columns = region.some_pixels()
        values = scores[:, rows, columns].T.astype(np.float32)
        if len(scores) == 1:
            one = values if self._params.activation == "none" else sigmoid(values)
            return float((one if region.kind else 1 - one).mean())
        return float((values if self._params.activation == "none" else softmax(values))[:, region.kind].mean())


class _Region(NamedTuple):
    """Connected pixels of one class."""

    area: int
    kind: int
    """The number of its class."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1."""
    mine: NDArray[np.bool_]
    """Which pixels of the box are in it."""

    def some_pixels(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows and columns of pixels of it: on a grid of about `SURE_OF` points in its box, else all."""
        x0, y0, x1, y1 = self.box
        step = max(1, math.isqrt((x1 - x0) * (y1 - y0) // SURE_OF))
        for each in (step, 1):
            rows, columns = np.nonzero(self.mine[::each, ::each])
            if len(rows):
                break
        return rows * each + y0, columns * each + x0


def _components(numbers: NDArray[Any], index: int, least: float, most: int) -> Iterator[_Region]:
    """Yield the regions of class `index` with at least `least` pixels, the `most` largest: noise has thousands."""
    mask = (numbers == index).view(np.uint8)
    left, top, across, down = cv2.boundingRect(mask)
    part = np.ascontiguousarray(mask[top : top + down, left : left + across])
    # Grana's algorithm: a third of the time of the default one.
    _, which, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(part, 8, cv2.CV_32S, cv2.CCL_GRANA)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas >= least)
    for number in (1 + large[best(areas[large].astype(np.float64), most)]).tolist():
        x, y, width, height, area = stats[number].tolist()
        box = (left + x, top + y, left + x + width, top + y + height)
        yield _Region(area, index, box, np.asarray(which[y : y + height, x : x + width] == number))


def _of_queries(info: TensorInfo, outputs: Sequence[TensorInfo]) -> bool:
    """Return whether N×Q×H×W are masks of queries, whose classes are N×Q×C beside it (MaskFormer, Mask2Former)."""
    return len(info.shape) == 4 and any(len(one.shape) == 3 and one.shape[1] == info.shape[1] for one in outputs)


def _may_be_classes(info: TensorInfo, input: TensorInfo) -> bool:
    """Return whether an output may be scores of classes, of one class, or class numbers."""
    count = channels(info, input)
    if count == 1:
        return len(info.shape) == 4 or not info.dtype.startswith("float")
    return count is None or (1 < count <= MOST_LIKELY and info.dtype.startswith("float"))
