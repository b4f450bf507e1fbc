"""Detectors decoded a second time, by plain loops from the published formulas: what the tasks are held against.

Nothing of ours is imported. All coordinates are pixels of the network's input. A decoded object is (x0, y0, x1, y1,
score, class, row), row: which candidate it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Row = tuple[float, float, float, float, float, int, int]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def suppressed(rows: list[Any], most: float, overlap: Callable[[Any, Any], float] = iou) -> list[Any]:
    """Greedy suppression within a class: Neubeck and Van Gool, *Efficient Non-Maximum Suppression*, 2006."""
    kept: list[Any] = []
    for row in sorted(rows, key=lambda row: -row[4]):
        if all(row[5] != other[5] or overlap(row, other) <= most for other in kept):
            kept.append(row)
    return kept


def clipped(row: Row, size: tuple[int, int]) -> Row:
    x0, x1 = (min(max(v, 0.0), size[0]) for v in (row[0], row[2]))
    y0, y1 = (min(max(v, 0.0), size[1]) for v in (row[1], row[3]))
    return (x0, y0, x1, y1, *row[4:])


def yolo(raw: np.ndarray, form: str, classes: int, threshold: float) -> list[Row]:
    """All candidates of one image over the threshold, before suppression; `raw` is one image's output as exported."""
    table = raw.T if form == "v8" else raw
    rows: list[Row] = []
    for index, numbers in enumerate(table.tolist()):
        if form == "end2end":
            x0, y0, x1, y1, score, label = numbers[:6]
            rows.append((x0, y0, x1, y1, score, int(label), index))
        else:
            x, y, w, h = numbers[:4]
            first = 4 if form == "v8" else 5
            chances = numbers[first : first + classes]
            label = max(range(classes), key=lambda c: (chances[c], -c))
            score = float(np.float32(chances[label]) * np.float32(1.0 if form == "v8" else numbers[4]))
            rows.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, label, index))
    return [row for row in rows if row[4] >= threshold]


def yolox(raw: np.ndarray, size: tuple[int, int], classes: int, threshold: float) -> list[Row]:
    """YOLOX before its grid is added."""
    table, at = raw.copy(), 0
    for stride in (8, 16, 32):
        for j in range(math.ceil(size[1] / stride)):
            for i in range(math.ceil(size[0] / stride)):
                row = table[at]
                row[0], row[1] = (row[0] + i) * stride, (row[1] + j) * stride
                row[2], row[3] = math.exp(row[2]) * stride, math.exp(row[3]) * stride
                at += 1
    assert at == len(table)
    return yolo(table, "v5", classes, threshold)


def detr(logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float, no_object: bool) -> list[Row]:
    """One image's queries: each class is a candidate; with `no_object` the best of a softmax without its last class."""
    rows: list[Row] = []
    for index, (numbers, (x, y, w, h)) in enumerate(zip(logits.tolist(), boxes.tolist(), strict=True)):
        box = ((x - w / 2) * size[0], (y - h / 2) * size[1], (x + w / 2) * size[0], (y + h / 2) * size[1])
        if no_object:
            top = max(numbers)
            powers = [math.exp(n - top) for n in numbers]
            chances = [p / sum(powers) for p in powers[:-1]]
            label = max(range(len(chances)), key=lambda c: chances[c])
            pairs = [(label, chances[label])]
        else:
            pairs = [(label, sigmoid(n)) for label, n in enumerate(numbers)]
        rows += [(*box, score, label, index) for label, score in pairs if score >= threshold]
    return sorted(rows, key=lambda row: -row[4])


def bilinear(values: np.ndarray, x: float, y: float, outside: float | None = None) -> float:
    """The value at x, y of a map whose cell (i, j) has its centre at i + 0.5, j + 0.5; `outside`: beyond its border."""
    height, width = values.shape
    x, y = x - 0.5, y - 0.5
    total = 0.0
    for j in (math.floor(y), math.floor(y) + 1):
        for i in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(x - i)) * (1 - abs(y - j))
            there = 0 <= i < width and 0 <= j < height
            value = values[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
            total += weight * float(value if there or outside is None else outside)
    return total


def mask(value: Callable[[float, float], float], box: Sequence[float], least: float) -> np.ndarray:
    """How far `value` at each whole pixel of `box` is above `least`: positive is the object."""
    x0, y0, x1, y1 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    return np.array([[value(x + 0.5, y + 0.5) - least for x in range(x0, x1)] for y in range(y0, y1)])


def corners(x: float, y: float, w: float, h: float, angle: float) -> list[tuple[float, float]]:
    """A rotated box's corners, clockwise from the one that is top left when it is not turned."""
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in
            ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))]  # fmt: skip


def probiou(a: Sequence[float], b: Sequence[float]) -> float:
    """1 - Hellinger distance of two boxes (x, y, w, h, angle) as normal distributions (Llerena et al., 2021)."""

    def covariance(box: Sequence[float]) -> np.ndarray:
        turn = np.array([[math.cos(box[4]), -math.sin(box[4])], [math.sin(box[4]), math.cos(box[4])]])
        return turn @ np.diag([box[2] ** 2 / 12, box[3] ** 2 / 12]) @ turn.T

    first, second = covariance(a), covariance(b)
    mean = (first + second) / 2
    apart = np.array([b[0] - a[0], b[1] - a[1]])
    distance = apart @ np.linalg.inv(mean) @ apart / 8
    distance += 0.5 * math.log(np.linalg.det(mean) / math.sqrt(np.linalg.det(first) * np.linalg.det(second)))
    return 1 - math.sqrt(max(0.0, 1 - math.exp(-distance)))


def peak(values: np.ndarray) -> tuple[float, float, float]:
    """x, y in cells and the value of a heat map's peak, moved by a quarter of a cell to its higher neighbours."""
    height, width = values.shape
    y, x = max(((j, i) for j in range(height) for i in range(width)), key=lambda at: (values[at], -at[0], -at[1]))
    best = float(values[y, x])
    at_x, at_y = float(x), float(y)
    if 0 < x < width - 1:
        at_x += 0.25 * float(np.sign(values[y, x + 1] - values[y, x - 1]))
    if 0 < y < height - 1:
        at_y += 0.25 * float(np.sign(values[y + 1, x] - values[y - 1, x]))
    return at_x, at_y, best


def rle(bits: np.ndarray) -> str:
    """COCO's compressed run lengths, as the algorithm in maskApi.c is written."""
    counts, last, run = [], False, 0
    for pixel in bits.T.ravel().tolist():
        if pixel != last:
            counts.append(run)
            last, run = pixel, 0
        run += 1
    counts.append(run)
    text = ""
    for index, count in enumerate(counts):
        x = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text
