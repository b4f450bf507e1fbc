"""The interface of a task: it turns a network's outputs into values with a meaning.

A task turns raw outputs into plain values that go on the wire (dicts, lists, floats, strings). All coordinates that
leave a task are pixels of the original frame. A task class is built as ``cls(params, context)``, once per loaded
node, and is pure: same outputs, same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hams_shared.group.node_spec import InputSpec
from hams_shared.wire import masks

Affine = NDArray[np.float64]
"""2×3 matrix that maps (x, y, 1) of one pixel grid to (x, y) of another; pixel centres are at integers + 0.5."""

Outputs = Mapping[str, NDArray[np.generic]]
"""A network's outputs by name, in the order of its file; the batch axis N first."""


Reads = dict[str, list[int] | None]
"""The outputs that a task reads: an output's name → numbers along its last axis, in order; None: all of them."""


class TaskParams(BaseModel):
    """Base of a task's own parameters: unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class TaskContext:
    """The information that a task is built with."""

    input: InputSpec
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The metadata of the network file, by key; empty where its format has none."""
    pixels: Literal["input", "image"] = "input"
    """What the network's boxes are counted in. ``input``: pixels of the input tensor. ``image``: the node feeds the
    network the image's size or scale (``inputs:``), and it outputs boxes in pixels of the image: `to_frame` maps those,
    and boxes are clipped to the frame only. A detection task that can do that has a true class attribute
    `image_pixels`; others are refused."""


@dataclass(frozen=True)
class TensorInfo:
    """A network's input or output as its file states it; None: any size."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Mask:
    """Which pixels of the frame an object covers, within its box."""

    runs: NDArray[np.int64]
    """Lengths of runs down the columns, in turn of pixels that are not the object (perhaps 0) and that are."""
    size: tuple[int, int]
    """Height and width in whole pixels of the frame."""
    offset: tuple[int, int]
    """x, y of the frame's pixel at its top left."""
    counts: str = ""
    """The runs as they are written, where they are already."""

    @classmethod
    def of(cls, bits: NDArray[np.bool_], offset: tuple[int, int]) -> Mask:
        """Of H×W pixels, the top left one at `offset` (x, y) in the frame."""
        return cls(masks.runs_of(bits), (bits.shape[0], bits.shape[1]), offset)

    @cached_property
    def bits(self) -> NDArray[np.bool_]:
        """H×W, one per whole pixel of the frame."""
        return masks.bits_of(self.runs, self.size)


@dataclass(frozen=True)
class Detected:
    """One object found by a detector."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the frame; finite, x0 < x1 and y0 < y1."""
    score: float
    label: str
    points: NDArray[np.float64] | None = None
    """K×2 key points in pixels of the frame, in the task's documented order, or None."""
    visibility: NDArray[np.float64] | None = None
    """For each key point, 0..1: how sure the network is that it can be seen; None: it does not give that."""
    skeleton: tuple[tuple[int, int], ...] | None = None
    """Which points are joined, where that is not what their number says (see docs/messages.md)."""
    mask: Mask | None = None
    angle: float | None = None
    """Of a rotated box: how far it is turned clockwise, degrees, -90 to 90; `points` are its corners then."""


class BaseTask(Protocol):
    """The interface that both kinds of task share.

    A task may have a class method ``fits(outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str,
    str])``. It returns None when outputs like these cannot be of this task, else the task's parameters for group.yaml
    without `type`, as far as shapes and metadata give them. A class attribute `layout` may say in a few words what such
    outputs hold; see :mod:`hams_agents.tasks.fitting`.

    A task that does not read all outputs of its network may have ``reads(outputs: Outputs) -> Reads``: all other
    values must not matter to it. The optimizer then removes what computes only those (drop-outputs). The outputs that a
    task reads must be finite, or the frame's node fails; a task to which NaN or infinity means something has a true
    class attribute `not_finite`.
    """

    Params: ClassVar[type[TaskParams]]
    """The parameters it takes in group.yaml under ``task:`` next to ``type``."""


class DetectionTask(BaseTask, Protocol):
    """Finds objects: its node may have children, which get crops."""

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """Decode a batch of N images; ``to_frame[i]`` maps input-tensor pixels of image i to frame pixels.

        Boxes are clipped to the input tensor and, when `frame_size` (width, height) is given, to the frame; those
        that are empty then, or not finite, are left out. The best score comes first.

        Raises:
            TaskError: the outputs do not fit this task.
        """
        ...


class DescriptionTask(BaseTask, Protocol):
    """Describes one image or crop: a label, a number, points, a text, a vector."""

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode a batch of N images into N maps of plain values. Raises TaskError as above.

        A task that knows where parts of the image are (an eye, a hand) may give them to children of its node: then it
        has an attribute `parts` that is true, and each map an entry ``objects``, a list of :class:`Detected`.

        A task whose answer must leave out what letterbox pads has an attribute `maps` that is true, and a further
        argument: for each image, width and height of the part of the input, from the top left, that shows something.

        A task may name in `IN_FULL` the parameters with which its answer also holds what it is made from (a map, a
        vector): the optimizer sets these to compare networks.
        """
        ...


Task = DetectionTask | DescriptionTask
"""Either kind; :func:`hams_agents.tasks.registry.is_detection` distinguishes them."""
