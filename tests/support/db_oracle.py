"""Decodes a probability map of text as PaddleOCR's ``DBPostProcess`` does, written from its steps, for comparison.

It shares no code with the task: regions by flood fill, the smallest rectangle by trying all directions, growth by
moving a disc along the rectangle and looking for the smallest rectangle around it again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def decode(
    chances: Array, thresh: float, box_thresh: float, ratio: float, min_size: float = 3
) -> list[tuple[Array, float]]:
    """Corners (4×2, pixel centres at integers, clockwise from the top left) and score of each text of an H×W map."""
    found = []
    for pixels in regions(chances > thresh):
        quad = smallest(pixels)
        sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
        if sides.min() < min_size:
            continue
        score = mean_in(chances, quad)
        if score >= box_thresh:
            area, around = sides[0] * sides[1], 2 * (sides[0] + sides[1])
            disc = area * ratio / around * np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 720)])
            found.append((smallest((quad[:, None] + disc).reshape(-1, 2)), score))
    return sorted(found, key=lambda one: -one[1])


def regions(mask: Array) -> list[Array]:
    """The x, y of the pixels of each connected region, diagonals included."""
    left = {(int(x), int(y)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        todo, region = [left.pop()], []
        while todo:
            x, y = todo.pop()
            region.append((x, y))
            for near in ((x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
                if near in left:
                    left.remove(near)
                    todo.append(near)
        found.append(np.array(region, float))
    return found


def smallest(points: Array) -> Array:
    """The corners of the rectangle of least area around points, among directions a tenth of a degree apart."""
    best: tuple[float, Array] | None = None
    for angle in np.radians(np.arange(0, 90, 0.1)):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned = points @ turn.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        area = float((high - low).prod())
        if best is None or area < best[0] - 1e-9:
            corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
            best = area, corners @ turn
    assert best is not None
    by_x = best[1][np.argsort(best[1][:, 0], kind="stable")]
    (a, b), (c, d) = by_x[:2].tolist(), by_x[2:].tolist()
    top_left, bottom_left = (a, b) if a[1] <= b[1] else (b, a)
    top_right, bottom_right = (c, d) if c[1] <= d[1] else (d, c)
    return np.array([top_left, top_right, bottom_right, bottom_left])


def mean_in(chances: Array, quad: Array) -> float:
    """The mean over pixels in a convex quadrilateral (clockwise), whose corners PaddleOCR truncates to whole pixels.

    A pixel that an edge crosses counts: its centre is at most half a pixel outside.
    """
    total, count = 0.0, 0
    quad = np.floor(quad.min(axis=0)) + np.trunc(quad - np.floor(quad.min(axis=0)))
    (x0, y0), (x1, y1) = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    for y in range(max(0, y0), min(chances.shape[0] - 1, y1) + 1):
        for x in range(max(0, x0), min(chances.shape[1] - 1, x1) + 1):
            sides = zip(quad, np.roll(quad, -1, axis=0) - quad, strict=True)
            if all(along[0] * (y - a[1]) - along[1] * (x - a[0]) >= -0.5 * np.hypot(*along) for a, along in sides):
                total, count = total + float(chances[y, x]), count + 1
    return total / count if count else 0.0
