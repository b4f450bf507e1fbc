"""The shape of an object beyond its box: a translucent mask, a turned box, a body's skeleton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from hams_services.sinks.draw_strokes import SUB, WHITE, Points, dots, fixed, polyline
from hams_services.sinks.draw_text import Color, Pixels
from hams_services.sinks.draw_words import SEEN, number
from hams_shared.errors import MessageError
from hams_shared.wire.masks import within
from hams_shared.wire.quads import are_quads

OPACITY = 0.4
LIMBS: Mapping[int, tuple[tuple[int, int], ...]] = {
    17: (
        (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
        (11, 13), (13, 15), (12, 14), (14, 16),
    ),
    33: (
        (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24),
        (23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (15, 19), (16, 20),
    ),
}  # fmt: skip
"""Which points of a body are joined, by how many there are: those of COCO (nose 0, shoulders 5 and 6, hips 11 and 12,
ankles 15 and 16) and of mediapipe (shoulders 11 and 12, hips 23 and 24, ankles 27 and 28)."""


def mask_on(canvas: Pixels, mask: Any, factor: int, color: Color) -> None:
    """Tint the pixels of a mask, as results have it, and draw its outline; what is no mask is left out."""
    try:
        bits, (x, y) = within(mask, (canvas.shape[1] // factor, canvas.shape[0] // factor))
    except MessageError:
        return
    if not bits.size:
        return
    seen = np.ascontiguousarray(np.repeat(np.repeat(bits, factor, axis=0), factor, axis=1) if factor > 1 else bits)
    x0, y0 = x * factor, y * factor
    part = canvas[y0 : y0 + seen.shape[0], x0 : x0 + seen.shape[1]]
    tinted = cv2.addWeighted(part, 1 - OPACITY, np.full_like(part, color), OPACITY, 0)
    part[seen] = tinted[seen]
    outlines = cv2.findContours(seen.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(canvas, outlines, -1, color, 1, cv2.LINE_AA, offset=(x0, y0))


def quad_on(canvas: Pixels, one: Mapping[str, Any], points: Points | None, line: int, color: Color) -> bool:
    """Draw an object whose points are its corners: a text, or a turned box, whose top left a dot marks; False: it is
    none, or its points are of an earlier frame."""
    if points is None or len(points) != 4 or one.get("predicted") is True or not are_quads(points[None]):
        return False
    polyline(canvas, points, color, line, closed=True)
    if "angle" in one:
        dots(canvas, points[:1], 1.5 * line, WHITE)
    return True


def skeleton(canvas: Pixels, points: Points, item: Mapping[str, Any], line: int, color: Color) -> bool:
    """Draw the joints of a body that can be seen, and its limbs; False: these points have neither.

    `item` may say which can be seen (`visibility`) and which are joined (`skeleton`).
    """
    limbs = _pairs(item.get("skeleton"), len(points))
    sure = item.get("visibility")
    if not isinstance(sure, list | tuple):
        if limbs is None:
            return False
        sure = [1.0] * len(points)
    if len(sure) != len(points):
        return True
    seen = [number(one, 0.0) >= SEEN for one in sure]
    for a, b in LIMBS.get(len(points), ()) if limbs is None else limbs:
        if seen[a] and seen[b]:
            cv2.line(canvas, fixed(points[a]), fixed(points[b]), color, line + 1, cv2.LINE_AA, SUB)
    if any(seen):
        dots(canvas, points[np.array(seen)], 1.2 * line, WHITE)
    return True


def _pairs(value: Any, count: int) -> Sequence[tuple[int, int]] | None:
    """Return the pairs of points that a result joins; None: it does not say."""
    if not isinstance(value, list | tuple):
        return None
    pairs = [tuple(pair) for pair in value if isinstance(pair, list | tuple) and len(pair) == 2]
    return [(a, b) for a, b in pairs if all(type(i) is int and 0 <= i < count for i in (a, b))]  # True is an int
