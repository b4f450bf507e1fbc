"""What a task is: the meaning of a network's outputs.

A task turns raw outputs into plain values that go on the wire (dicts, lists, floats, strings). All coordinates that
leave a task are pixels of the original frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hams_shared.group_spec import InputSpec

Affine = NDArray[np.float64]
"""2×3 matrix that maps (x, y, 1) of one pixel grid to (x, y) of another; pixel centres are at integers + 0.5."""


class TaskParams(BaseModel):
    """Base of a task's own parameters: unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Detected:
    """One object found by a detector."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the frame; may reach a little outside it."""
    score: float
    label: str
    points: NDArray[np.float64] | None = None
    """K×2 key points in pixels of the frame, in the task's documented order, or None."""


class Task(Protocol):
    """Base of both kinds of task; built once per loaded node."""

    Params: ClassVar[type[TaskParams]]
    """The parameters it takes in group.yaml under ``task:`` beside ``type``."""


class DetectionTask(Task, Protocol):
    """Finds objects: its node may have children, which get crops."""

    def detect(self, outputs: Mapping[str, NDArray[np.generic]], to_frame: Sequence[Affine]) -> list[list[Detected]]:
        """Decode a batch of N images; ``to_frame[i]`` maps input-tensor pixels of image i to frame pixels.

        Raises:
            TaskError: the outputs do not fit this task.
        """
        ...


class DescriptionTask(Task, Protocol):
    """Says something about one image or crop: a label, a number, points, a text, a vector."""

    def describe(self, outputs: Mapping[str, NDArray[np.generic]], to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode a batch of N images into N maps of plain values. Raises TaskError as above."""
        ...


@dataclass(frozen=True)
class TaskContext:
    """What a task knows when it is built."""

    input: InputSpec
