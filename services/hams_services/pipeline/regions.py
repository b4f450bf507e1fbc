"""The parts of a frame that the root node is given, what their detections are together, and what masks leave out. Pure.

Neighbouring tiles show a strip twice. An object in it is found twice, and one on a tile's edge is found in part. Two
boxes of different views, of one label, are of one object when

- neither is cut by its view's edge, and their overlap (IoU) is `SAME`: that of the better score stays; of each other
  view it takes the place of one only, so that of a crowd nobody is lost;
- one is cut, and it covers what its view should show of the other (IoU `SAME`), or `PART` of it lies in the other: the
  one that is not cut stays, with the better score;
- both are cut, and agree (IoU `SAME`) in what both views show: they are joined to the box around them, with the better
  score. So an object larger than the strip, which no view shows whole, is one box.

This goes beyond non-maximum suppression and the joining of SAHI (Akyon et al., *Slicing Aided Hyper Inference*, ICIP
2022), which compare all boxes by one overlap: a half person then stays beside the whole one, or takes their place.

Measured on vtest.avi (768×576), 40 frames, pedestrian-detection-adas-0002 (672×384); what is there is what
crossroad-0078 finds at 1024×1024, 204 people: the whole frame finds 90.2 % of them; tiles of 3×2 97.5 %, with the whole
98.5 %; tiles of 2×2 that share 0.3 99.0 %. Of 299, 495, 346 boxes, 1, 2, 0 are of an object that another box has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.zones import Zones
from hams_shared.group.node_spec import InputSpec
from hams_shared.group.regions import Rectangle, TilesSpec
from hams_shared.wire.frames import DeferredCrops

Found = dict[str, Any]
"""An object: box (x0, y0, x1, y1), score, label, perhaps points, and whatever else; in pixels of the frame."""
Boxes = NDArray[np.float64]

SAME = 0.5
"""Least overlap (IoU) of two boxes of one object."""
PART = 0.8
"""Of a cut box in another one."""
EDGE = 0.02
"""A box this near to an edge of its view, as part of the view's side, is cut by it: detectors are as exact as that."""


@dataclass(frozen=True, order=True)
class View:
    """A rectangle of whole pixels of the frame."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.x1 - self.x0, self.y1 - self.y0


def views(tiles: TilesSpec | None, roi: Rectangle | None, frame_size: tuple[int, int]) -> tuple[View, ...]:
    """Return the parts of a frame of `frame_size` (width, height) that the root is given, row by row, no two the same.

    `roi` is relative; it is widened to whole pixels. Tiles have one size and cover the roi exactly; neighbours share
    `overlap` of it, up to a pixel. The roi itself is the last where `whole`, and the only one without tiles.
    """
    width, height = frame_size
    x0, y0, x1, y1 = roi or (0.0, 0.0, 1.0, 1.0)
    left, top = (min(math.floor(at * of + 1e-6), of - 1) for at, of in ((x0, width), (y0, height)))
    right, bottom = (math.ceil(at * of - 1e-6) for at, of in ((x1, width), (y1, height)))
    whole = View(left, top, max(right, left + 1), max(bottom, top + 1))
    if tiles is None:
        return (whole,)
    columns = _spans(whole.x0, whole.x1, tiles.grid[0], tiles.overlap)
    rows = _spans(whole.y0, whole.y1, tiles.grid[1], tiles.overlap)
    parts = [View(left, top, right, bottom) for top, bottom in rows for left, right in columns]
    return tuple(dict.fromkeys([*parts, *([whole] if tiles.whole else [])]))


def as_crops(parts: Sequence[View], takes: InputSpec) -> tuple[DeferredCrops, NDArray[np.float64]]:
    """Return what the root's device takes from the frame in place of the whole, and its N×2×3 maps to frame pixels.

    `takes` is the input of the root's network there. The crops are of its size, filled as it fits images into it.
    """
    (width, height), filled = takes.size, []
    for view in parts:
        across, down = view.size
        scale = min(width / across, height / down)
        fitted = (min(width, max(1, round(across * scale))), min(height, max(1, round(down * scale))))
        filled.append(fitted if takes.fit == "letterbox" else takes.size)
    scales = np.array([view.size for view in parts]) / np.array(filled)
    to_frame = np.zeros((len(parts), 2, 3))
    to_frame[:, 0, 0], to_frame[:, 1, 1] = scales.T
    to_frame[:, :, 2] = [(view.x0, view.y0) for view in parts]
    return DeferredCrops(takes.size, takes.pad, filled, [None] * len(parts)), to_frame


def _spans(start: int, stop: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Return `count` spans of one length that cover `start` to `stop`; a length is `overlap` longer than its step."""
    length = stop - start
    part = math.ceil(length / (count - (count - 1) * overlap) - 1e-9)
    step = (length - part) / max(count - 1, 1)
    firsts = [start + round(number * step) for number in range(count)]
    return [(first, first + part) for first in firsts]


def unmasked(objects: Sequence[Found], masks: Zones, frame_size: tuple[int, int]) -> list[Found]:
    """Return the objects whose foot point is in none of the `masks`; `frame_size` is width and height."""
    if not (objects and masks.names):
        return list(objects)
    hidden = masks.of(np.array([one["box"] for one in objects], np.float64), frame_size)
    return [one for one, out in zip(objects, hidden, strict=True) if not out]


def merged(parts: Sequence[View], found: Sequence[Sequence[Found]]) -> list[Found]:
    """Return the objects that are in the frame, best score first, of those `found` in each of its `parts`.

    Of one view, the objects as they are. An object that is joined of several has all that its best part has, with the
    box around them. The order of the views does not matter.

    Raises:
        ValueError: there is not one list for each view.
    """
    if len(parts) != len(found):
        raise ValueError(f"{len(found)} lists of objects for {len(parts)} views")
    if len(parts) == 1:
        return list(found[0])
    rows = [(one, view) for view, objects in zip(parts, found, strict=True) for one in objects]
    if not rows:
        return []
    hull = _hull(np.array([_box(view) for view in parts]))
    kept: list[Found] = []
    for _, same in groupby(sorted(rows, key=_label), key=_label):
        kept += _Merge(list(same), hull).objects()
    return sorted(kept, key=_rank)


def _label(row: tuple[Found, View]) -> str:
    return str(row[0]["label"])


def _rank(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return -one["score"], *one["box"], str(one["label"])


def _box(view: View) -> tuple[int, int, int, int]:
    return view.x0, view.y0, view.x1, view.y1


def _hull(boxes: NDArray[Any]) -> Boxes:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]).astype(np.float64)


class _Merge:
    """Of the objects of one label: what belongs together. Rows are sorted: whole boxes first, then by score."""

    def __init__(self, rows: list[tuple[Found, View]], hull: Boxes) -> None:
        cut = [bool(sides.any()) for sides in _cut(_boxes(rows), _views(rows), hull)]
        order = sorted(range(len(rows)), key=lambda row: (cut[row], _rank(rows[row][0]), rows[row][1]))
        self._objects = [rows[row][0] for row in order]
        rows = [rows[row] for row in order]
        self._boxes, self._views = _boxes(rows), _views(rows)
        self._whole = len(cut) - sum(cut)
        """Boxes before it are whole."""
        self._other = (self._views[:, None] != self._views[None]).any(axis=2)
        """Which are of different views."""
        self._left = np.ones(len(rows), np.bool_)
        """Not yet part of an object."""

    def objects(self) -> list[Found]:
        """Return one object for all that belong together."""
        return [*self._of_whole(), *self._of_parts()]

    def _of_whole(self) -> Iterator[Found]:
        count, boxes = self._whole, self._boxes
        same = overlaps(boxes[:count], boxes[:count])
        shown = _clipped(boxes[:count, None], self._views[None, count:])  # of each whole box in the view of each part
        parts = boxes[None, count:]
        explained = (_overlap(shown, parts) >= SAME) | (
            _area(_clipped(boxes[:count, None], parts)) >= PART * _area(parts)
        )
        explained &= self._other[:count, count:]
        for row in range(count):
            if not self._left[row]:
                continue
            parts_of = count + np.flatnonzero(self._left[count:] & explained[row])
            self._left[row] = self._left[parts_of] = False
            others = np.flatnonzero(self._left[:count] & self._other[row, :count] & (same[row] >= SAME))
            taken: dict[tuple[int, ...], int] = {}
            for other in others[np.argsort(-same[row, others], kind="stable")].tolist():
                view = tuple(self._views[other].tolist())
                if view not in taken:  # of one view, two boxes are two objects
                    taken[view] = other
                    self._left[other] = False
            yield _as_sure(self._objects[row], [self._objects[one] for one in (*taken.values(), *parts_of.tolist())])

    def _of_parts(self) -> Iterator[Found]:
        """Join what is left: parts of objects that no view shows whole."""
        rows = np.flatnonzero(self._left)
        boxes, areas = self._boxes[rows], self._views[rows]
        both = _clipped(areas[:, None], areas[None])
        agree = _overlap(_clipped(boxes[:, None], both), _clipped(boxes[None], both)) >= SAME
        agree &= self._other[np.ix_(rows, rows)]
        todo = set(range(len(rows)))
        while todo:
            group, front = set[int](), {min(todo)}
            while front:
                group |= front
                front = {int(other) for row in front for other in np.flatnonzero(agree[row])} - group
            todo -= group
            best, *others = (self._objects[row] for row in rows[sorted(group)])
            if others:
                best = {**best, "box": [round(v, 2) for v in _hull(boxes[sorted(group)]).tolist()]}
            yield _as_sure(best, others)


def _as_sure(one: Found, others: Sequence[Found]) -> Found:
    """Return the object as sure as the surest of it: its score, and no `low` where another one has none."""
    surest = min((one, *others), key=lambda other: (bool(other.get("low")), -other["score"]))
    if surest is one:
        return one
    low = {"low": surest["low"]} if "low" in surest else {}
    return {**{key: value for key, value in one.items() if key != "low"}, "score": surest["score"], **low}


def _boxes(rows: Sequence[tuple[Found, View]]) -> Boxes:
    return np.array([one["box"] for one, _ in rows], np.float64).reshape(-1, 4)


def _views(rows: Sequence[tuple[Found, View]]) -> Boxes:
    return np.array([_box(view) for _, view in rows], np.float64).reshape(-1, 4)


def _cut(boxes: Boxes, within: Boxes, hull: Boxes) -> NDArray[np.bool_]:
    """Return N×4: whether a view's edge cuts the box at that side. The edges of `hull` cut nothing that is merged."""
    margin = EDGE * np.tile(within[:, 2:] - within[:, :2], 2)
    near = np.concatenate([boxes[:, :2] - within[:, :2], within[:, 2:] - boxes[:, 2:]], axis=1) <= margin
    return np.asarray(near & (within != hull))


def overlaps(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Return the N×M overlaps (IoU) of N×4 and M×4 boxes."""
    return _overlap(a[:, None], b[None])


def _overlap(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    both = _area(_clipped(a, b))
    either = _area(a) + _area(b) - both
    return np.asarray(np.where(both > 0, both / np.maximum(either, 1e-12), 0.0))


def _clipped(boxes: Boxes, to: Boxes) -> Boxes:
    """Return what of the boxes lies in those `to`; without area where nothing does."""
    return np.concatenate([np.maximum(boxes[..., :2], to[..., :2]), np.minimum(boxes[..., 2:], to[..., 2:])], axis=-1)


def _area(boxes: Boxes) -> NDArray[np.float64]:
    return np.asarray(np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1))
