"""Lines, dashes, dots and hatching on images: drawn in place, clipped at the borders, with a dark rim.

The rim makes every colour stand out on bright and on dark pictures.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.sinks.draw_text import Color, Pixels

Points = NDArray[np.float64]
"""K×2: x, y in pixels, pixel centres at integer + 0.5."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

PALETTE: tuple[Color, ...] = (
    (84, 214, 120), (255, 176, 64), (92, 148, 255), (219, 112, 219), (72, 209, 224), (255, 130, 130), (122, 196, 196)
)  # fmt: skip
"""Of objects without a track, in their order."""
TRACKS: tuple[Color, ...] = (
    (0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204)
)  # fmt: skip
"""Of tracks, by id: Okabe and Ito's set for all kinds of colour vision (*Color Universal Design*, 2008)."""
WHITE, DARK, FADED = (255, 255, 255), (28, 26, 24), (170, 168, 166)
SUB = 4
"""Fractional bits of coordinates given to OpenCV: sixteenths of a pixel."""
DASH, PERIOD = 5, 12
"""Length of a dash, and from one to the next, in widths of the line."""


def fixed(point: Points | tuple[float, float]) -> tuple[int, int]:
    """Return a point, pixel centres at integer + 0.5, as OpenCV's fixed-point coordinates."""
    return round((point[0] - 0.5) * (1 << SUB)), round((point[1] - 0.5) * (1 << SUB))


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.rint((points - 0.5) * (1 << SUB)).astype(np.int32)


def rectangle(canvas: Pixels, box: Box, color: Color, line: int) -> None:
    """Draw a rectangle, `line` pixels wide."""
    for shade, thickness in ((DARK, line + 2), (color, line)):
        cv2.rectangle(canvas, fixed(box[:2]), fixed(box[2:]), shade, thickness, cv2.LINE_AA, SUB)


def dashed_rectangle(canvas: Pixels, box: Box, color: Color, line: int) -> None:
    """Draw a rectangle whose sides are dashes; each corner is the middle of two."""
    size, reach = canvas.shape[1::-1], line + 2
    sides = [(min(box[axis::2]), max(box[axis::2])) for axis in (0, 1)]
    strokes: list[NDArray[np.int32]] = []
    for axis in (0, 1):  # the sides along x, then those along y
        along = _dashes(*sides[axis], size[axis], line)
        for at in sides[1 - axis]:
            if -reach <= at <= size[1 - axis] + reach:
                across = np.full_like(along, at)
                strokes += [*_fixed(np.stack([along, across] if axis == 0 else [across, along], axis=-1))]
    if strokes:
        for shade, thickness in ((DARK, line + 2), (color, line)):
            cv2.polylines(canvas, strokes, False, shade, thickness, cv2.LINE_AA, SUB)


def _dashes(low: float, high: float, limit: int, line: int) -> Points:
    """Return the ends, N×2, of the dashes of a side from `low` to `high`, those that lie in 0..limit."""
    count = max(1, round((high - low) / (PERIOD * line)))
    step = (high - low) / count
    half = min(DASH * line, step * DASH / PERIOD) / 2
    first, last = 0, count
    if step > 0:
        reach = half + 2 * line + 2  # rims and ends beyond it
        first = max(first, math.floor((-low - reach) / step))
        last = min(last, math.ceil((limit - low + reach) / step))
    middles = low + step * np.arange(first, last + 1)
    return np.stack([np.maximum(middles - half, low), np.minimum(middles + half, high)], axis=-1)


def polyline(
    canvas: Pixels, points: Points, color: Color, line: int, *, closed: bool = False, rim: Color = DARK
) -> None:
    """Draw a line through `points`."""
    strokes = [_fixed(points)]
    for shade, thickness in ((rim, line + 2), (color, line)):
        cv2.polylines(canvas, strokes, closed, shade, thickness, cv2.LINE_AA, SUB)


def _part(canvas: Pixels, points: Points, reach: int) -> tuple[Pixels, NDArray[np.int64]]:
    """Return the part of `canvas`, a view, that holds `points` and `reach` pixels about them, and its top left."""
    low = np.maximum(np.floor(points.min(axis=0)).astype(np.int64) - reach, 0)
    high = np.maximum(np.minimum(np.ceil(points.max(axis=0)).astype(np.int64) + reach, canvas.shape[1::-1]), low)
    return canvas[low[1] : high[1], low[0] : high[0]], low


def dots(canvas: Pixels, points: Points, radius: float, color: Color, opacity: float = 1.0) -> None:
    """Draw filled circles; with `opacity` below 1 the image shows through."""
    part, low = _part(canvas, points, math.ceil(radius) + 2)
    if not part.size:
        return
    layer = part.copy()
    for point in points - low:
        cv2.circle(layer, fixed(point), round(radius * (1 << SUB)), color, cv2.FILLED, cv2.LINE_AA, SUB)
    part[:] = cv2.addWeighted(layer, opacity, part, 1 - opacity, 0)


def hatched(canvas: Pixels, polygon: Points, gap: float, line: int, opacity: float) -> None:
    """Fill a polygon with diagonals `gap` pixels apart, through which the image shows; pairs of dark and bright."""
    part, low = _part(canvas, polygon, line)
    if not part.size:
        return
    layer, corners = part.copy(), polygon - low
    for shade, shift in ((DARK, 0.0), (WHITE, line * math.sqrt(2))):
        strokes = [*_fixed(diagonals(corners, gap, shift))]
        if strokes:
            cv2.polylines(layer, strokes, False, shade, line, cv2.LINE_AA, SUB)
    part[:] = cv2.addWeighted(layer, opacity, part, 1 - opacity, 0)


def diagonals(polygon: Points, gap: float, shift: float = 0.0) -> NDArray[np.float64]:
    """Return N×2×2 ends of the pieces of lines x + y = k · `gap` + `shift` in `polygon`, by the even-odd rule."""
    u, v = polygon.sum(axis=1), polygon[:, 0] - polygon[:, 1]
    levels = np.arange(math.ceil((u.min() - shift) / gap), math.floor((u.max() - shift) / gap) + 1) * gap + shift
    next_u, next_v = np.roll(u, -1), np.roll(v, -1)
    level = levels[:, None]
    crosses = (u <= level) != (next_u <= level)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(crosses, v + (level - u) / (next_u - u) * (next_v - v), np.inf)
    at = np.sort(at, axis=1)
    at = at[:, : at.shape[1] // 2 * 2].reshape(len(levels), at.shape[1] // 2, 2)
    rows, columns = np.nonzero(np.isfinite(at).all(axis=2))
    across, along = at[rows, columns], levels[rows][:, None]
    return np.stack([(along + across) / 2, (along - across) / 2], axis=-1)
