"""Where text is on an image: a probability map, as networks with differentiable binarization (DB) give it.

Liao, Wan, Yao, Chen, Bai, *Real-time Scene Text Detection with Differentiable Binarization*, AAAI 2020; decoding as
PaddleOCR's ``DBPostProcess`` (https://github.com/PaddlePaddle/PaddleOCR): binarise, outline each region, the smallest
rotated rectangle around it, its mean probability, and that rectangle grown, since DB learns shrunk regions. A rectangle
w×h grows on each side by ``d = ratio * w * h / (2 (w + h))``, area over perimeter; PaddleOCR offsets the polygon with
rounded corners, whose smallest rectangle is this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Detected, Outputs, Reads, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import MAX_CANDIDATES, best, only, pick, probabilities
from hams_agents.tasks.input import apply
from hams_agents.tasks.maps import channels, finite, single

NAME = "text_detection"
TALL = 1.5
"""A rectangle so much higher than wide holds text from top to bottom, as PaddleOCR assumes."""


class TextDetectionParams(TaskParams):
    """Parameters of ``type: text_detection``."""

    threshold: float = Field(0.6, gt=0, lt=1, description="least mean probability of a text (box_thresh)")
    binarize: float = Field(0.3, gt=0, lt=1, description="pixels with more than this are text (thresh)")
    unclip: float = Field(1.5, ge=0, le=10, description="how much a text grows: times its area over its perimeter")
    dilate: bool = Field(False, description="widen the binary map by a pixel (use_dilation)")
    min_size: float = Field(3, ge=0, description="least side of a text before it grows, pixels of the output")
    turn_tall: bool = Field(
        True, description="the first corner of a text much higher than wide is its top right: its crop lies on its side"
    )
    max_objects: int = Field(1000, ge=1, le=MAX_CANDIDATES, description="most texts per image, the best scores first")
    label: str = Field("text", min_length=1, description="of the objects")
    activation: Literal["none", "sigmoid"] = Field("none", description="none: the output is probabilities already")
    output: str | None = Field(None, description="name of the output; not needed when there is one only")


class TextDetection:
    """Finds texts: objects with four points, their corners, clockwise from the top left one of the text.

    A child with ``crop: {align: corners}`` reads them.
    """

    Params: ClassVar[type[TaskParams]] = TextDetectionParams

    def __init__(self, params: TextDetectionParams, context: TaskContext) -> None:
        self._params = params
        self._size = np.array(context.input.size, np.float64)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`: one map with a channel of its own, N×1×H×W."""
        fit = len(outputs) == 1 and len(outputs[0].shape) == 4 and outputs[0].dtype.startswith("float")
        return {} if fit and channels(outputs[0], input) == 1 else None

    def reads(self, outputs: Outputs) -> Reads:
        """Return the one output that is used."""
        return only(outputs, self._params.output, NAME)

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode; see :class:`hams_agents.tasks.base.DetectionTask`."""
        images = single(pick(outputs, self._params.output, NAME), len(to_frame), NAME)
        return [self._image(one, affine, frame_size) for one, affine in zip(images, to_frame, strict=True)]

    def _image(self, raw: NDArray[Any], affine: Affine, frame_size: tuple[int, int] | None) -> list[Detected]:
        params = self._params
        values = np.ascontiguousarray(raw, np.float32)
        finite(values, NAME)
        chances = probabilities(values, params.activation, NAME)
        found = [
            (one, score) for one in self._rectangles(chances) if (score := _score(chances, one)) >= params.threshold
        ]
        if not found:
            return []
        scores = np.array([score for _, score in found])
        order = best(scores, params.max_objects)
        quads = np.stack([found[index][0] for index in order.tolist()])
        quads = apply(affine, (_grown(quads, params.unclip) + 0.5) * (self._size / chances.shape[::-1]))
        if params.turn_tall:
            quads = _turned(quads)
        boxes = np.concatenate((quads.min(axis=1), quads.max(axis=1)), axis=1)
        if frame_size is not None:
            boxes = boxes.clip(0, np.tile(frame_size, 2))
        return [
            Detected((x0, y0, x1, y1), float(score), params.label, quad)
            for (x0, y0, x1, y1), score, quad in zip(boxes.tolist(), scores[order], quads, strict=True)
            if x1 > x0 and y1 > y0
        ]

    def _rectangles(self, chances: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Return the smallest rectangle around each region: 4×2 corners, pixel centres at integers."""
        binary = (chances > self._params.binarize).view(np.uint8)
        if self._params.dilate:
            binary = np.asarray(cv2.dilate(binary, np.ones((2, 2), np.uint8)), np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        if len(contours) > MAX_CANDIDATES:  # an image that is all noise
            sizes = np.array([max(cv2.boundingRect(one)[2:]) for one in contours], np.float64)
            contours = [contours[index] for index in best(sizes, MAX_CANDIDATES).tolist()]
        least = self._params.min_size
        around = [rectangle for one in contours if min((rectangle := cv2.minAreaRect(one))[1]) >= max(least, 1e-6)]
        return [_ordered(np.asarray(cv2.boxPoints(one), np.float64)) for one in around]


def _ordered(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 4×2 corners clockwise from the top left one: the upper of the two on the left, as PaddleOCR has it."""
    left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
    left, right = left[np.argsort(left[:, 1], kind="stable")], right[np.argsort(right[:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])


def _score(chances: NDArray[np.float32], corners: NDArray[np.float64]) -> float:
    """Return the mean probability in a quadrilateral, as PaddleOCR's ``box_score_fast``."""
    size = np.array(chances.shape[::-1]) - 1
    low = np.floor(corners.min(axis=0)).clip(0, size).astype(np.intp)
    high = np.ceil(corners.max(axis=0)).clip(0, size).astype(np.intp)
    part = chances[low[1] : high[1] + 1, low[0] : high[0] + 1]
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [(corners - low).astype(np.int32)], (1,))
    return float(cv2.mean(part, inside)[0])


def _grown(quads: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Return K×4×2 rectangles with each side moved outwards by ``ratio * area / perimeter``."""
    along, down = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]
    width, height = (np.linalg.norm(side, axis=1, keepdims=True) for side in (along, down))
    distance = ratio * width * height / (2 * (width + height))
    right, below = along / width * distance, down / height * distance
    moves = np.stack([-right - below, right - below, right + below, below - right], axis=1)
    grown: NDArray[np.float64] = quads + moves
    return grown


def _turned(quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let the corners of K×4×2 texts that are tall begin at the top right, as PaddleOCR turns their crops."""
    sides = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
    tall = np.maximum(sides[:, 1], sides[:, 3]) >= TALL * np.maximum(sides[:, 0], sides[:, 2])
    return np.where(tall[:, None, None], np.roll(quads, -1, axis=1), quads)
