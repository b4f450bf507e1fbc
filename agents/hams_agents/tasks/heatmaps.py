"""Key points of one object from heat maps, or from a vector along x and one along y: top-down pose networks.

    heatmaps   N×K×h×w: the peak of each map, moved by a quarter of a cell towards its higher neighbours (Newell et al.,
               *Stacked Hourglass Networks*, 2016; HRNet). Cell i is pixel i W/w of the input; with `udp` i (W-1)/(w-1),
               so that the outer cells are the outer pixels (Huang et al., *The Devil is in the Details*, 2020; ViTPose)
    simcc      N×K×Wx and N×K×Wy: the peak of each vector, whose bins are W/Wx pixels (Li et al., *SimCC*, 2022;
               RTMPose)

A point's score is the peak's value: of two vectors the lower one, as mmpose takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Outputs, TensorInfo
from hams_agents.tasks.decoding import pick
from hams_shared.errors import TaskError

Array = NDArray[np.float64]
NEAR = 0.25
"""Of a cell: how far the peak lies towards the higher of its neighbours."""
POINTS = frozenset({14, 16, 17, 19, 21, 23, 26, 29, 68, 98, 106, 133})
"""Numbers of points that published top-down networks have (MPII, COCO, hands, Halpe, faces, whole bodies)."""
STRIDE, BINS = 4, 2
"""Pixels of the input that a cell of their maps is wide, and bins per pixel of their vectors."""


def fits(outputs: Sequence[TensorInfo], input: TensorInfo) -> dict[str, Any] | None:
    """Return the parameters of `landmarks` for outputs that are heat maps or vectors of points; None: they are not."""
    shapes = [one.shape for one in outputs]
    if len(input.shape) != 4 or not shapes or any(len(shape) < 3 or shape[1] not in POINTS for shape in shapes):
        return None
    sides = input.shape[2:] if input.shape[1] == 3 else input.shape[1:3]
    if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][2:] == tuple(s and s // STRIDE for s in sides):
        return {"points": shapes[0][1], "decode": "heatmaps"}
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        lengths = sorted(shape[2] or 0 for shape in shapes)
        if lengths == sorted((s or -1) * BINS for s in sides):
            return {"points": shapes[0][1], "decode": "simcc"}
    return None


def from_maps(
    outputs: Outputs, output: str | None, count: int, points: int, size: tuple[int, int], udp: bool
) -> tuple[Array, Array]:
    """Return N×K×2 points in pixels of the input, of `size`, and N×K scores. Raises TaskError: no such output."""
    values = pick(outputs, output, "landmarks")
    if values.ndim != 4 or values.shape[:2] != (count, points) or min(values.shape[2:]) < 2:
        shape = "×".join(map(str, values.shape))
        fits = f": that is points: {values.shape[1]}" if values.ndim == 4 and values.shape[0] == count else ""
        raise TaskError(
            f"task landmarks: the output is {shape}, expected {count}×{points}×h×w heat maps{fits}",
            "correct points or decode",
        )
    height, width = values.shape[2:]
    maps = values.reshape(count * points, height * width).astype(np.float32, copy=False)
    peak = maps.argmax(axis=1)
    row = np.arange(len(maps))
    scores = maps[row, peak].astype(np.float64)
    y, x = np.divmod(peak, width)
    grid = maps.reshape(-1, height, width)
    places = []
    for at, last, before, after in (
        (x, width - 1, (row, y, np.maximum(x - 1, 0)), (row, y, np.minimum(x + 1, width - 1))),
        (y, height - 1, (row, np.maximum(y - 1, 0), x), (row, np.minimum(y + 1, height - 1), x)),
    ):
        inner = (at > 0) & (at < last)
        places.append(at + NEAR * inner * np.sign(grid[after].astype(np.float64) - grid[before]))
    cells = np.array([width, height], np.float64)
    scale = (np.array(size) - 1) / (cells - 1) if udp else np.array(size) / cells
    found = np.stack(places, axis=1) * scale + 0.5
    return found.reshape(count, points, 2), scores.reshape(count, points)


def from_vectors(outputs: Outputs, count: int, points: int, size: tuple[int, int]) -> tuple[Array, Array]:
    """Return N×K×2 points in pixels of the input, of `size`, and N×K scores. Raises TaskError: no such outputs."""
    named = list(outputs.items())
    if len(named) == 2 and ("simcc_y" in named[0][0] or "simcc_x" in named[1][0]):
        named.reverse()
    vectors = [value for _, value in named]
    if len(vectors) != 2 or any(one.ndim != 3 or one.shape[:2] != (count, points) for one in vectors):
        shapes = ", ".join("×".join(map(str, value.shape)) for value in outputs.values())
        raise TaskError(
            f"task landmarks: the outputs are {shapes}, expected {count}×{points}×Wx and {count}×{points}×Wy",
            "correct points or decode",
        )
    bins = np.array([one.shape[2] for one in vectors], np.float64)
    found = np.stack([one.argmax(axis=2) for one in vectors], axis=2) * (np.array(size) / bins) + 0.5
    scores = np.minimum(*(one.max(axis=2) for one in vectors)).astype(np.float64)
    return found, scores
