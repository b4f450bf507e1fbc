"""Places on a picture: zones and lines by name, masks, and the trails of tracks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from hams_services.sinks.draw_plates import Plate, name_on
from hams_services.sinks.draw_strokes import DARK, FADED, TRACKS, WHITE, Points, hatched, polyline
from hams_services.sinks.draw_text import Color, Pixels
from hams_services.sinks.trails import TRAIL_S, Trail
from hams_shared.group.regions import Regions

HATCH = 14
"""Pixels between two diagonals of a mask, in widths of a line."""
PARTS = 4
"""Of a trail; each is fainter than the next."""
NEWEST, OLDEST = 0.9, 0.2
"""How opaque they are: their colours are mixed with the mean of what is under them, which is much faster than to draw
on a copy and to mix pictures."""


def places_on(canvas: Pixels, regions: Regions, busy: Collection[str], line: int) -> list[Plate]:
    """Draw masks, zones (those with objects, `busy`, brighter) and lines; return where their names are."""
    size = np.array(canvas.shape[1::-1], np.float64)
    for polygon in regions.mask:
        hatched(canvas, np.array(polygon) * size, HATCH * line, max(1, line // 2), 0.35)
    names = []
    for name, corners in regions.zones.items():
        points, color = np.array(corners) * size, WHITE if name in busy else FADED
        polyline(canvas, points, color, max(1, line - 1), closed=True)
        names.append((name, _inside(points, line), color))
    for name, ends in regions.lines.items():
        points = np.array(ends) * size
        _line(canvas, points, line)
        names.append((name, (float(points[0, 0]) + 2 * line, float(points[0, 1]) + 2 * line), WHITE))
    return [name_on(canvas, name, at, color) for name, at, color in names]


def _inside(polygon: Points, line: int) -> tuple[float, float]:
    """Return where a zone's name begins: at the corner that is highest, or a little lower and more to the left."""
    x, y = polygon[np.argmin(polygon[:, 1] + polygon[:, 0] / 4)]
    return float(x) + 2 * line, float(y) + 2 * line


def _line(canvas: Pixels, ends: Points, line: int) -> None:
    """Draw a line with an arrow that shows where `in` is: to the right, seen from its first end to the second."""
    polyline(canvas, ends, WHITE, line)
    along = ends[1] - ends[0]
    length = float(np.hypot(*along))
    if length < 1:
        return
    middle, right = ends.mean(axis=0), np.array([-along[1], along[0]]) / length
    tip, side = middle + right * 7 * line, along / length * 3 * line
    polyline(canvas, np.array([middle, tip]), WHITE, line)
    polyline(canvas, np.array([tip - right * 3 * line - side, tip, tip - right * 3 * line + side]), WHITE, line)


def trails_on(canvas: Pixels, trails: Sequence[Trail], factor: int, line: int) -> None:
    """Draw trails, the older the fainter; `factor`: of the canvas to the frame."""
    highest = np.array(canvas.shape[1::-1]) - 1
    for trail in trails:
        points = trail.points * factor
        part = np.minimum(trail.ages * (PARTS / TRAIL_S), PARTS - 1).astype(int)
        seen = np.clip(points, 0, highest).astype(int)
        under = canvas[seen[:, 1], seen[:, 0]].astype(np.float64)  # taken before anything of the trail is drawn
        shades = np.array([track_color(trail.track), DARK])
        for number in range(PARTS - 1, -1, -1):
            first, last = np.searchsorted(-part, [-number, -number + 1])
            rows = slice(first, last + 1)  # up to where the next part begins
            if last > first and last - first + (last < len(points)) > 1:
                opacity = NEWEST - (NEWEST - OLDEST) * number / (PARTS - 1)
                mixed = shades * opacity + under[rows].mean(axis=0) * (1 - opacity)
                color, rim = (tuple(shade) for shade in mixed.round().astype(int).tolist())
                polyline(canvas, points[rows], color, line, rim=rim)


def track_color(track: int) -> Color:
    """Return the colour of a track, the same on all pictures."""
    return TRACKS[track % len(TRACKS)]
