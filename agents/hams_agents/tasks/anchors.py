"""Anchor boxes of single-shot detectors: where each of a network's candidates starts from.

Two families: the generator of TensorFlow's Object Detection API (``create_ssd_anchors`` in
``multiple_grid_anchor_generator``), and the fixed anchors of mediapipe's BlazeFace and its kin
(``ssd_anchors_calculator`` with ``fixed_anchor_size``).
All values are parts of the input's sides.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hams_agents.tasks.base import TaskParams

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1024)]
Cells = Count | tuple[Count, Count]
"""Cells along both sides of a layer, or [columns, rows]."""


class TensorFlowAnchors(TaskParams):
    """``style: tensorflow``: boxes of several scales and proportions in each cell; the defaults are its zoo's."""

    style: Literal["tensorflow"] = "tensorflow"
    cells: tuple[Cells, ...] = Field(
        min_length=1, description="per layer: cells per side, e.g. [19, 10, 5, 3, 2, 1], or [columns, rows]"
    )
    scale: tuple[Positive, Positive] = Field(
        (0.2, 0.95), description="scale of the first layer and of the last, as part of the input's shorter side"
    )
    aspect_ratios: tuple[Positive, ...] = Field((1.0, 2.0, 0.5, 3.0, 1 / 3), min_length=1)
    interpolated_scale: bool = Field(
        True, description="one more square box per cell, between this layer's scale and the next"
    )
    reduce_lowest: bool = Field(True, description="only three boxes per cell in the first layer")
    variances: tuple[Positive, Positive] = Field((10.0, 5.0), description="the network's numbers are so much larger")

    def boxes(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return P×4 anchors for an input of `size` (width, height): centre x, y, width, height."""
        low, high = self.scale
        last = len(self.cells) - 1
        scales = [low + (high - low) * layer / last if last else low for layer in range(last + 1)] + [1.0]
        layers = []
        for layer, cells in enumerate(self.cells):
            if layer == 0 and self.reduce_lowest:
                shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
            else:
                shapes = [(scales[layer], ratio) for ratio in self.aspect_ratios]
                if self.interpolated_scale:
                    shapes.append((math.sqrt(scales[layer] * scales[layer + 1]), 1.0))
            sides = np.array([(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for scale, ratio in shapes])
            layers.append(_grid(cells, sides * min(size) / size))
        return np.concatenate(layers)


class MediapipeAnchors(TaskParams):
    """``style: mediapipe``: anchors are the cells' centres alone; the defaults are short-range BlazeFace's."""

    style: Literal["mediapipe"]
    cells: tuple[Cells, ...] = Field((16, 8), min_length=1, description="per layer: cells per side, or [columns, rows]")
    per_cell: tuple[Count, ...] = Field((2, 6), min_length=1, description="per layer: anchors in each cell")

    @model_validator(mode="after")
    def _fits(self) -> MediapipeAnchors:
        if len(self.cells) != len(self.per_cell):
            raise ValueError("each layer needs its number in cells and in per_cell")
        return self

    def boxes(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return P×4 anchors, the same for an input of any `size`: centre x, y, and 1, 1."""
        pairs = zip(self.cells, self.per_cell, strict=True)
        return np.concatenate([_grid(cells, np.ones((count, 2))) for cells, count in pairs])


Anchors = Annotated[TensorFlowAnchors | MediapipeAnchors, Field(discriminator="style")]


def _grid(cells: Cells, sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes of the given sides (K×2) in each cell of a layer: row by row, in each cell all sides."""
    columns, rows = (cells, cells) if isinstance(cells, int) else cells
    y, x = np.divmod(np.arange(columns * rows), columns)
    centres = (np.column_stack((x, y)) + 0.5) / (columns, rows)
    return np.column_stack((np.repeat(centres, len(sides), axis=0), np.tile(sides, (len(centres), 1))))


_MEDIAPIPE = {
    (896, 16): ([16, 8], [2, 6], "face"),
    (2016, 18): ([24, 12], [2, 6], "hand"),
    (2254, 12): ([28, 14, 7], [2, 2, 6], "person"),
}
"""By number of anchors and numbers per anchor: BlazeFace, palm detection, pose detection."""


def known_anchors(
    count: int | None, numbers: int | None, classes: int | None, size: tuple[int, int]
) -> dict[str, Any] | None:
    """Return a single-shot detector's `anchors`, and what goes with them, by its shapes; None: no known family.

    `count` anchors with so many `numbers` for a box, and scores of so many `classes`; `size`: of the input.
    """
    if count is None:
        return None
    if classes == 1 and (found := _MEDIAPIPE.get((count, numbers or 0))):
        cells, per_cell, label = found
        return {
            "anchors": {"style": "mediapipe", "cells": cells, "per_cell": per_cell},
            "background": False,
            "labels": [label],
        }
    cells = [math.ceil(min(size) / 16)]
    while cells[-1] > 1 and len(cells) < 8:
        cells.append(math.ceil(cells[-1] / 2))
    if numbers != 4 or size[0] != size[1] or (classes or 0) < 2:
        return None
    fits = 3 * cells[0] ** 2 + 6 * sum(side**2 for side in cells[1:]) == count
    return {"anchors": {"style": "tensorflow", "cells": cells}} if fits else None
