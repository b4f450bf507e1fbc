"""The forms in which YOLO's outputs are exported, and how a form is told from shapes.

    v5          N×P×(5+C+E)   centre x, y, width, height in pixels, objectness, scores of C classes, E further numbers
    v8          N×(4+C+E)×P   the same without objectness; also v9, v11, v12 and YOLO26 with end2end=False
    end2end     N×M×(6+E)     x0, y0, x1, y1 in pixels, score, class: one row per object, best first
    yolox       N×P×(5+C)     as v5, but boxes are relative to their cell of a grid
    nas         N×P×4 and N×P×C   x0, y0, x1, y1 in pixels, and scores
    nms         N×1, N×M×4, N×M, N×M   how many, x0, y0, x1, y1, scores, classes (TensorRT's EfficientNMS)
    v7-end2end  K×7           image, x0, y0, x1, y1, class, score

TensorFlow Lite's boxes (v5: all of TensorFlow's) are in parts of the input's sides instead of pixels.

Sources: https://docs.ultralytics.com/guides/end2end-detection and /modes/export (v5 to YOLO26; v10 is end2end too),
https://github.com/WongKinYiu/yolov7 (export.py --end2end), https://github.com/Megvii-BaseDetection/YOLOX
(demo/ONNXRuntime), https://github.com/Deci-AI/super-gradients (YoloNAS exports). E is 32 for masks, 3 per key point,
1 for an angle. YOLOv6 and v7 without end2end are as v5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Version = Literal["auto", "v5", "v8", "end2end", "yolox", "nas", "nms", "v7-end2end"]

STRIDES = (8, 16, 32)
LONGEST_LIST = 1000
"""Rows of a list of objects (the exporters' default is 300); candidates are more."""

Shape = Sequence[int | None]


def cells(size: tuple[int, int]) -> tuple[int, ...]:
    """Return how many candidates a head with one per cell has, for an input of `size`: up to stride 32, up to 64."""
    counts = [math.prod(math.ceil(side / stride) for side in size) for stride in (*STRIDES, 64)]
    return sum(counts[:3]), sum(counts)


def form_of(shape: Shape, classes: int, extra: int, size: tuple[int, int]) -> Version | None:
    """Return the form of one output N×A×B, for so many classes and `extra` numbers; None: it is none of them.

    `size` is the input's (width, height). Of v5 and yolox, which have the same shape, it is v5 where there are three
    candidates per cell, else None: only the user knows.
    """
    rows, columns = shape[1], shape[2]
    single = cells(size)
    listed = columns == 6 + extra and rows not in (*single, *(3 * count for count in single))
    if rows == 4 + classes + extra and not (listed and (columns or 0) < 4 + classes + extra):
        return "v8"
    if listed and (rows is None or rows <= LONGEST_LIST):
        return "end2end"
    if columns == 5 + classes + extra:
        return None if rows in single else "v5"
    return None


def alternatives(shape: Shape, extra: int, size: tuple[int, int]) -> list[str]:
    """Return what would fit one output N×A×B, in words: versions and numbers of labels."""
    if len(shape) != 3 or shape[1] is None or shape[2] is None:
        return []
    rows, columns = shape[1], shape[2]
    single = cells(size)
    found = []
    if columns == 6 + extra and rows <= LONGEST_LIST:
        found.append("version end2end with any labels")
    if rows > 4 + extra and (rows < columns or columns in single):
        found.append(f"version v8 with {_labels(rows - 4 - extra)}")
    if columns > 5 + extra and columns < rows:
        name = "v5 (also YOLOv6), or yolox," if rows in single else "v5"
        found.append(f"version {name} with {_labels(columns - 5 - extra)}")
    return found


def _labels(count: int) -> str:
    return f"{count} label{'s' if count != 1 else ''}"
