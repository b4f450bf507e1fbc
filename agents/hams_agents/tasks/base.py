"""The interface of a task: it turns a network's outputs into values with a meaning.

A task turns raw outputs into plain values that go on the wire (dicts, lists, floats, strings). All coordinates that
leave a task are pixels of the original frame. A task class is built as ``cls(params, context)``, once per loaded
node, and is pure: same outputs, same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hams_shared.group.node_spec import InputSpec

Affine = NDArray[np.float64]
"""2×3 matrix that maps (x, y, 1) of one pixel grid to (x, y) of another; pixel centres are at integers + 0.5."""

Outputs = Mapping[str, NDArray[np.generic]]
"""A network's outputs by name, in the order of its file; the batch axis N first."""


Reads = dict[str, list[int] | None]
"""The outputs that a task reads: an output's name → numbers along its last axis, in order; None: all of them."""


class TaskParams(BaseModel):
    """Base of a task's own parameters: unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class TaskContext:
    """The information that a task is built with."""

    input: InputSpec
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The metadata of the network file, by key; empty where its format has none."""


@dataclass(frozen=True)
class Detected:
    """One object found by a detector."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the frame; finite, x0 < x1 and y0 < y1."""
    score: float
    label: str
    points: NDArray[np.float64] | None = None
    """K×2 key points in pixels of the frame, in the task's documented order, or None."""


class BaseTask(Protocol):
    """The interface that both kinds of task share.

    A task that does not read all outputs of its network may have ``reads(outputs: Outputs) -> Reads``: all other
    values must not matter to it. The optimizer then removes what computes only those (drop-outputs).
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
        """
        ...


Task = DetectionTask | DescriptionTask
"""Either kind; :func:`hams_agents.tasks.registry.is_detection` distinguishes them."""
