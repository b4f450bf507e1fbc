"""Where objects are in a stream's picture: in which zones, and which lines they cross. Pure.

An object is where its **foot point** is: the middle of its box's lower edge, where a standing thing touches the ground.
A foot point outside the picture counts as on the picture's edge: the box of an object that the edge cuts may go on.

The border of a zone belongs to it. A zone whose corners' order crosses itself is inside where a ray out of it crosses
the border an odd number of times (even-odd), as OpenCV fills polygons.

Detected boxes tremble, so that a track that stands on a border would enter and leave all the time. Hence a **margin**
of 10 % of the box's size (the root of its area; 2 pixels at least), which each change has to pass. About 99 % of the
foot points that a person detector finds in 250 frames of OpenCV's vtest.avi tremble less. There, with 40 zones and 40
lines at random, the margin lessens changes of zones that are taken back within a second from 98 to 34 (people do walk
along borders), and such crossings from 32 of 219 to 3 of 187.

- a track enters a zone as soon as its foot point is in it, and leaves once that is farther outside than the margin;
- a track crosses a line once its foot point is farther beyond it than the margin, if it went through between the line's
  two ends (which count). Round an end is no crossing, and there and back within the margin is none either. A track has
  a side from its first foot point on; one exactly on the line has none until it leaves it.

Only boxes that were detected decide, and the first of a track: a predicted box may be wrong, and the next detection
tells. So where the detector runs on every n-th frame, what happens is noticed n - 1 frames later at most; the path
between two detections is taken as straight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.tracking.boxes import Array
from hams_shared.group.regions import Line, Polygon

MARGIN = 0.1
"""Part of the root of a box's area, which has to be passed; see above."""
LEAST_MARGIN = 2.0
"""Of it, pixels."""
NEAR = 1e-9
"""What is so near to a border or to the end of a line, in parts of the picture's side, is on it."""
NEAR_PX = 1e-6
"""What is so near to a line, pixels, is on it."""

Bools = NDArray[np.bool_]
Slots = NDArray[np.intp]
Size = tuple[float, float]
"""Width and height of a picture, pixels."""

TO_FEET = np.array([[0.5, 0], [0, 0], [0.5, 0], [0, 1]])


def foot_points(boxes: Array, size: Size) -> Array:
    """Return the foot points of N×4 `boxes` (x0, y0, x1, y1 in pixels) in a picture of `size`: N×2, relative, in it."""
    feet: Array = boxes @ TO_FEET
    feet /= size
    return np.minimum(np.maximum(feet, 0.0), 1.0)


def margins(boxes: Array) -> Array:
    """Return the margin of each of N×4 `boxes`, pixels."""
    return np.maximum(MARGIN * np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])), LEAST_MARGIN)


class Zones:
    """The zones of one stream."""

    def __init__(self, polygons: Mapping[str, Polygon]) -> None:
        self.names = tuple(polygons)
        edges = [_edges(points) for points in polygons.values()]
        self._starts = np.cumsum([0, *map(len, edges)])[:-1]
        """Of each zone, its first edge."""
        self._a, b = np.concatenate([np.empty((0, 2, 2)), *edges]).transpose(1, 2, 0)
        self._along = dx, dy = b - self._a
        self._long = np.hypot(dx, dy)
        self._y0, self._y1, up = self._a[1], b[1], np.where(dy > 0, 1.0, -1.0)
        self._normal, self._offset = up * (-dy, dx), up * (dy * self._a[0] - dx * self._a[1])
        """A point times normal, plus offset, is above 0 if the edge is to its right."""
        self._near = NEAR * self._long

    def contain(self, feet: Array) -> Bools:
        """Return which of N×2 relative `feet` are in which zone: N×Z."""
        if not self.names or not len(feet):
            return np.zeros((len(feet), len(self.names)), np.bool_)
        y = feet[:, 1:]
        turn = feet @ self._normal
        turn += self._offset
        odd = (self._y0 <= y) != (self._y1 <= y)
        odd &= turn > 0
        inside: Bools = np.bitwise_xor.reduceat(odd, self._starts, axis=1)
        near = np.abs(turn) <= self._near
        if near.any():
            along = (feet[:, :1] - self._a[0]) * self._along[0] + (y - self._a[1]) * self._along[1]
            on = near & (along >= -self._near) & (along <= self._long**2 + self._near)
            inside |= np.bitwise_or.reduceat(on, self._starts, axis=1)
        return inside

    def distance(self, feet: Array, size: Size) -> Array:
        """Return how far N×2 relative `feet` are from the border of each zone in a picture of `size`: N×Z, pixels."""
        scale = np.array(size)[:, None]
        (ax, ay), (dx, dy) = self._a * scale, self._along * scale
        px, py = feet[:, :1] * size[0] - ax, feet[:, 1:] * size[1] - ay
        part = ((px * dx + py * dy) / (dx * dx + dy * dy)).clip(0.0, 1.0)
        away: Array = np.minimum.reduceat(np.hypot(px - part * dx, py - part * dy), self._starts, axis=1)
        return away

    def of(self, boxes: Array, size: Size) -> list[tuple[str, ...]]:
        """Return the zones of each of N×4 `boxes` of objects that nobody follows: without hysteresis."""
        inside = self.contain(foot_points(boxes, size)).tolist()
        return [tuple(name for name, one in zip(self.names, row, strict=True) if one) for row in inside]


def _edges(points: Polygon) -> Array:
    """Return the edges of a polygon, start and end: E×2×2. A corner that is given twice in a row counts once."""
    both = [(a, b) for a, b in zip(points, (*points[1:], points[0]), strict=True) if a != b]
    return np.array(both, np.float64)


class Lines:
    """The lines of one stream."""

    def __init__(self, lines: Mapping[str, Line]) -> None:
        self.names = tuple(lines)
        ends = np.array(list(lines.values()), np.float64).reshape(-1, 2, 2)
        self._a, self._along = ends[:, 0], ends[:, 1] - ends[:, 0]
        self._size: Size = (0, 0)
        """What the next two are for: normals, pixels, and distances of the picture's corner."""
        self._normal, self._offset = np.empty((2, 0)), np.empty(0)

    def beyond(self, feet: Array, size: Size) -> Array:
        """Return how far N×2 relative `feet` are right of each line, seen along it; left is below 0: N×L, pixels."""
        if size != self._size:
            (ax, ay), (dx, dy) = (self._a * size).T, (self._along * size).T
            long = np.hypot(dx, dy)
            self._size, self._offset = size, (dy * ax - dx * ay) / long
            self._normal = np.array([-dy * size[0], dx * size[1]]) / long
        away: Array = feet @ self._normal
        away += self._offset
        return away

    def same(self, line: int, other: Lines, number: int) -> bool:
        """Whether a line is where line `number` of `other` is."""
        a, b = (self._a[line], self._along[line]), (other._a[number], other._along[number])
        return bool(np.array_equal(a, b))

    def through(self, line: int, point: Array, size: Size) -> bool:
        """Return whether a relative `point` of a line that had no ends is between its ends."""
        along = self._along[line] * size
        part = float((point - self._a[line]) * size @ along / (along @ along))
        return -NEAR <= part <= 1 + NEAR


class Moves(NamedTuple):
    """What boxes did that were given to :meth:`Places.move`: (index of the box, index of the zone or line)."""

    left: list[tuple[int, int]]
    entered: list[tuple[int, int]]
    crossed: list[tuple[int, int, bool]]
    """And whether from left to right, seen along the line: `in`."""


class Places:
    """Zones and sides of lines of up to `most` tracks of one stream, each in a slot of its own (0 to `most` - 1)."""

    def __init__(self, zones: Zones, lines: Lines, most: int) -> None:
        self.zones, self.lines = zones, lines
        self.inside = np.zeros((most, len(zones.names)), np.bool_)
        self._foot = np.zeros((most, 2))
        """The last foot point that decided, relative."""
        self._side = np.zeros((most, len(lines.names)))
        """Of each line, where it was last farther than the margin: -1 left, 1 right; at first where it began."""
        self._now = np.zeros_like(self._side)
        """The side where it is, however near; 0 as long as it was only ever on the line."""
        self._net = np.zeros_like(self._side)
        """How often it went through between the ends since it was on `_side`: to the right less to the left."""
        self._near = np.zeros(most, np.bool_)
        """Whether it is anything but farther than the margin on `_side` of all lines."""

    def changed(self, zones: Zones, lines: Lines, most: int, slots: Sequence[int]) -> Places:
        """Return the places for other zones and lines, where the tracks in `slots` have the slots 0, 1 …

        They are where they were: in zones of the same names, and on the same side of lines that are the same.
        """
        new, rows = Places(zones, lines, most), np.array(slots, np.intp)
        count = len(rows)
        new._foot[:count], new._near[:count] = self._foot[rows], True
        for column, name in enumerate(zones.names):
            if name in self.zones.names:
                new.inside[:count, column] = self.inside[rows, self.zones.names.index(name)]
        for column, name in enumerate(lines.names):
            old = self.lines.names.index(name) if name in self.lines.names else -1
            if old >= 0 and lines.same(column, self.lines, old):
                for state, before in ((new._side, self._side), (new._now, self._now), (new._net, self._net)):
                    state[:count, column] = before[rows, old]
        return new

    def begin(self, slot: int) -> None:
        """Put a new track in `slot`: nowhere yet."""
        for state in (self.inside, self._side, self._now, self._net, self._near):
            state[slot] = 0

    def move(self, slots: Slots, boxes: Array, size: Size) -> Moves:
        """Take N×4 `boxes` (in a picture of `size`, pixels) of tracks in N different `slots`; return the changes."""
        if not len(slots) or not (self.zones.names or self.lines.names):
            return Moves([], [], [])
        feet, wide = foot_points(boxes, size), margins(boxes)
        crossed = self._cross(slots, feet, wide, size) if self.lines.names else []
        self._foot[slots] = feet
        return Moves(*self._enter(slots, feet, wide, size), crossed)

    def _enter(
        self, slots: Slots, feet: Array, wide: Array, size: Size
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return what left which zone, and what entered which."""
        before, inside = self.inside[slots], self.zones.contain(feet)
        changed = before != inside
        if not changed.any():
            return [], []
        gone = changed & before
        if gone.any():
            rows = np.logical_or.reduce(gone, axis=1).nonzero()[0]
            inside[rows] |= gone[rows] & (self.zones.distance(feet[rows], size) <= wide[rows, None])
            changed = before != inside
        self.inside[slots] = inside
        return _pairs(changed & before), _pairs(changed & inside)

    def _cross(self, slots: Slots, feet: Array, wide: Array, size: Size) -> list[tuple[int, int, bool]]:
        """Return what crossed which line."""
        beyond = self.lines.beyond(feet, size)
        near = np.logical_or.reduce(beyond * self._side[slots] <= wide[:, None], axis=1)
        look = (near | self._near[slots]).nonzero()[0]
        self._near[slots] = near
        found = []
        for row in look.tolist():
            for line, away in enumerate(beyond[row].tolist()):
                way = self._pass(int(slots[row]), line, away, feet[row], clear=abs(away) > wide[row], size=size)
                if way:
                    found.append((row, line, way > 0))
        return found

    def _pass(self, slot: int, line: int, away: float, foot: Array, *, clear: bool, size: Size) -> int:
        """Take how far a track is right of a line; return 1 if it crossed to the right, -1 to the left, 0 if not."""
        before, net = int(self._now[slot, line]), int(self._net[slot, line])
        now = 1 if away > NEAR_PX else -1 if away < -NEAR_PX else before
        side = int(self._side[slot, line]) or now
        if now * before < 0:
            last = self._foot[slot]
            was = float(self.lines.beyond(last[None], size)[0, line])
            part = min(max(was / (was - away), 0.0), 1.0) if was != away else 0.0
            if self.lines.through(line, last + part * (foot - last), size):
                net = min(max(net + now, -100), 100)
        way = net if clear and now != side else 0
        self._now[slot, line] = now
        self._side[slot, line], self._net[slot, line] = (now, 0) if clear else (side, net)
        return way


def _pairs(which: Bools) -> list[tuple[int, int]]:
    rows, columns = which.nonzero()
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
