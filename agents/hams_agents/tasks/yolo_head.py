"""The part that all YOLO tasks share: parameters, and the candidates of an image with their boxes and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams
from hams_agents.tasks.decoding import MAX_CANDIDATES, Selection, best, pick, placed
from hams_agents.tasks.families import meant
from hams_agents.tasks.names import labels_of, wanted
from hams_agents.tasks.yolo_forms import STRIDES, Version, alternatives, cells, form_of
from hams_shared.errors import TaskError

Rows = NDArray[np.float32]
"""P×W: the candidates of one image."""


class HeadParams(TaskParams):
    """Parameters of all YOLO tasks."""

    version: Version = Field(
        "auto",
        description="the form of the output; auto: by its shape. v5 also for v6 and v7; v8 for v9, v11 and v12; "
        "end2end for v10, YOLO26 and exports with suppression (nms=True); nms: EfficientNMS",
    )
    labels: tuple[str, ...] = Field(
        (), description="in the order of the network's classes; none: `names` of the file's metadata"
    )
    only: tuple[str, ...] = Field((), description="labels wanted; empty: all")
    threshold: float = Field(0.4, gt=0, lt=1, description="least score of an object")
    iou: float = Field(
        0.5, gt=0, lt=1, description="of two boxes of one class that overlap more, the lower score goes; not of end2end"
    )
    min_size: float = Field(0, ge=0, description="least side of an object, pixels of the network's input")
    max_objects: int = Field(200, ge=1, le=MAX_CANDIDATES, description="most objects per image, the best scores first")
    boxes: Literal["auto", "input", "unit"] = Field(
        "auto",
        description="boxes and points in pixels of the input, or in parts of its sides (unit), as in exports of "
        "Ultralytics to TensorFlow Lite; auto: by the numbers; not of yolox",
    )
    output: str | None = Field(None, description="name of the output; not needed when there is one only")


class RichParams(HeadParams):
    """Parameters of those that give more than boxes."""

    version: Literal["auto", "v5", "v8", "end2end"] = Field(
        "auto",
        description="the form of the output; auto: by its shape. v8 also for v9 to v12; end2end: a row an object",
    )


@dataclass(frozen=True)
class Found:
    """The objects of one image, best score first."""

    rows: NDArray[np.intp]
    """Which of the image's candidates they are."""
    boxes: NDArray[np.float64]
    """K×4: x0, y0, x1, y1 in pixels of the frame."""
    scores: NDArray[np.float64]
    labels: list[str]


class Head:
    """Reads the candidates of one YOLO output.

    Args:
        task: its name, for errors.
        params: of the task.
        context: of the task.
        extra: numbers of a candidate beside box and scores, at its end.
        centred: whether boxes of end2end are written as centre x, y, width, height (rotated boxes are).
        point: numbers of each point, x and y first, where `extra` is made of points; 0: it is not.
    """

    def __init__(
        self,
        task: str,
        params: HeadParams,
        context: TaskContext,
        extra: int = 0,
        *,
        centred: bool = False,
        point: int = 0,
    ) -> None:
        if params.version == "yolox" and params.boxes != "auto":
            raise TaskError(f"task {task}: boxes of version yolox are relative to a grid", "leave out boxes")
        names = dict(enumerate(labels_of(task, params.labels, context)))
        self._task = task
        self._params = params
        self._input = context.input.size
        self._size = np.array(context.input.size, np.float64)
        self._count = len(names)
        self.names = wanted(task, names, params.only)
        self._classes = np.array(sorted(self.names))
        self._extra = extra
        self._centred = centred
        self._point = point

    def candidates(self, outputs: Outputs, count: int, given: Version | None = None) -> tuple[Version, list[Rows]]:
        """Return the output's form and, for each of `count` images, its candidates.

        `given` is the form, None: that of the parameters. Raises TaskError: the output does not fit it.
        """
        if self._params.output is None and len(outputs) != 1 and (elsewhere := meant(outputs, self._input, self._task)):
            raise TaskError(
                f"task {self._task}: the network has {len(outputs)} outputs", f"they may be those of task {elsewhere}"
            )
        values = pick(outputs, self._params.output, self._task)
        version: Version | None = given or self._params.version
        if values.ndim == 2 and count == 1:  # a list without a batch axis
            values = values[None]
        if version == "auto":
            shape = values.shape
            version = form_of(shape, self._count, self._extra, self._input) if values.ndim == 3 else None
        width = {"v8": 4 + self._count, "end2end": 6}.get(version or "", 5 + self._count) + self._extra
        axis = 1 if version == "v8" else 2
        if version is None or values.ndim != 3 or values.shape[0] != count or values.shape[axis] != width:
            raise self._misfit(outputs, values.shape, count, version, width)
        rows = values.astype(np.float32, copy=False)
        rows = rows.transpose(0, 2, 1) if axis == 1 else rows
        return version, list(rows * self._sides(width) if self._in_parts(version, rows) else rows)

    def _in_parts(self, version: Version, rows: NDArray[np.float32]) -> bool:
        """Whether the boxes of N×P×W candidates are in parts of the input's sides, not in pixels.

        In pixels the centres of all cells reach the far sides of the input, and some object of a list lies outside the
        two pixels at the top left; in parts no side is four times the input's. Where the candidates are not one or
        three per cell, nothing tells: they count as pixels.
        """
        if self._params.boxes != "auto" or version == "yolox":
            return self._params.boxes == "unit"
        if version == "end2end":
            there = rows[rows[:, :, 4] > 0, :4]
            return bool(there.size) and float(there.max()) < 2
        single = cells(self._input)
        whole = rows.shape[1] in (*single, *(3 * count for count in single))
        return whole and bool(rows.size) and float(rows[:, :, :4].max()) <= 4

    def _sides(self, width: int) -> NDArray[np.float32]:
        """Return W factors that make pixels of parts: of a box's four numbers, and of x and y of each point."""
        factors = np.ones(width, np.float32)
        factors[:4] = np.tile(self._size, 2)
        if self._point:
            factors[-self._extra :].reshape(-1, self._point)[:, :2] = self._size
        return factors

    def _misfit(
        self, outputs: Outputs, shape: tuple[int, ...], count: int, version: Version | None, width: int
    ) -> TaskError:
        """Return the error for an output that is no such form: what it is, and what would fit."""
        forms = {
            "v8": f"{count}×{width}×P",
            None: f"{count}×{width - 1}×P (v8), {count}×P×{width} (v5) or {count}×M×{6 + self._extra} (end2end)",
        }
        form = forms.get(version, f"{count}×P×{width}")
        labels = f"{self._count} label{'s' if self._count != 1 else ''}"
        others = alternatives(shape, self._extra, self._input)
        elsewhere = meant(outputs, self._input, self._task)
        hint = [f"{' or '.join(others)} fits this shape"] if others else []
        hint += [f"these outputs may be those of task {elsewhere}"] if elsewhere else []
        return TaskError(
            f"task {self._task}: the output is {'×'.join(map(str, shape))}, expected {form} for {labels}",
            "; ".join(hint) or "check version and labels",
        )

    def likely(self, version: Version, raw: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Return rows, classes and scores of the candidates over the threshold, the best ones at most."""
        least = self._params.threshold
        if version == "end2end":
            hopeful = np.flatnonzero(raw[:, 4] >= least)
            numbers = raw[hopeful, 5].astype(np.intp)
            scores = raw[hopeful, 4].astype(np.float64)
            self._check(numbers)
        else:
            first = 4 if version == "v8" else 5
            chances = raw[:, first : first + self._count]
            if version == "v8":
                hopeful = np.flatnonzero(chances.max(axis=1) >= least)
                chances = chances[hopeful]
            else:
                hopeful = np.flatnonzero(raw[:, 4] >= least)  # no class can make more of it
                chances = chances[hopeful] * raw[hopeful, 4:5]
            numbers = chances.argmax(axis=1)
            scores = chances[np.arange(len(hopeful)), numbers].astype(np.float64)
        passed = np.flatnonzero((scores >= least) & np.isin(numbers, self._classes))
        passed = passed[best(scores[passed], MAX_CANDIDATES)]
        return hopeful[passed], numbers[passed], scores[passed]

    def _check(self, numbers: NDArray[np.intp]) -> None:
        """Raise TaskError when the network finds a class that has no name."""
        if len(numbers) and not 0 <= int(numbers.max()) < self._count:
            raise TaskError(
                f"task {self._task}: the network found class {int(numbers.max())}, labels has {self._count}",
                "give all of the network's classes, in its order",
            )

    def corners(self, version: Version, raw: Rows, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return K×4: x0, y0, x1, y1 of candidates, pixels of the input."""
        boxes = raw[rows, :4].astype(np.float64)
        if version == "end2end" and not self._centred:
            return boxes
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate((middle - half, middle + half), axis=1)

    def find(self, version: Version, raw: Rows, to_frame: Affine, frame_size: tuple[int, int] | None) -> Found:
        """Return the objects of an image."""
        rows, numbers, scores = self.likely(version, raw)
        corners = self.corners(version, raw, rows)
        return self.placed(version, rows, numbers, scores, corners, to_frame, frame_size)

    def placed(
        self,
        version: Version,
        rows: NDArray[np.intp],
        numbers: NDArray[np.intp],
        scores: NDArray[np.float64],
        corners: NDArray[np.float64],
        to_frame: Affine,
        frame_size: tuple[int, int] | None,
    ) -> Found:
        """Return those of the candidates that are objects."""
        params = self._params
        iou = None if version in ("end2end", "nms", "v7-end2end") else params.iou
        choice = Selection(self.names, iou, params.min_size, params.max_objects)
        kept, boxes = placed(corners, scores, choice, self._size, to_frame, frame_size, numbers)
        return Found(rows[kept], boxes, scores[kept], [self.names[n] for n in numbers[kept].tolist()])

    def on_grid(self, rows: Rows) -> Rows:
        """Return the candidates of YOLOX with their boxes in pixels. Raises TaskError: they are not one per cell.

        Ge et al., *YOLOX*, 2021: centre = (x, y + cell) * stride, side = exp(w, h) * stride.
        """
        columns_rows = [(-(-self._input[0] // s), -(-self._input[1] // s), s) for s in (*STRIDES, 64)]
        for levels in (columns_rows[:3], columns_rows):
            if sum(across * down for across, down, _ in levels) == len(rows):
                break
        else:
            raise TaskError(f"task {self._task}: {len(rows)} candidates are not one per cell of the grids of YOLOX")
        places = []
        for across, down, stride in levels:
            y, x = np.divmod(np.arange(across * down), across)
            places.append(np.column_stack((x, y, np.full(len(x), stride))))
        grid = np.concatenate(places).astype(np.float32)
        found = rows.copy()
        found[:, :2] = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
        found[:, 2:4] = np.exp(np.minimum(rows[:, 2:4], 10.0)) * grid[:, 2:]
        return found
