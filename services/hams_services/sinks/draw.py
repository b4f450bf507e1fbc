"""Draws results on their image, for people: boxes, points, head pose and the outputs of child nodes.

It takes the plain maps of a result message (``objects``), with any names of nodes, and skips keys that it does not
know. Lines and letters scale with the image, and a small image is enlarged first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.sinks.draw_text import Color, Pixels, printable, put_text, text_width
from hams_services.sinks.quantity import quantity

LEAST_SIDE = 480
"""Pictures with a shorter side below this are enlarged, so that text on them can be read."""
OWN_KEYS = frozenset({"box", "score", "label", "points", "id", "objects"})
"""Keys of an object that are its parent's; all others are child nodes."""
SEEN = 0.5
"""Points with a lower score are not drawn: the network found nothing there."""
PALETTE: tuple[Color, ...] = (
    (84, 214, 120), (255, 176, 64), (92, 148, 255), (219, 112, 219), (72, 209, 224), (255, 130, 130), (122, 196, 196)
)  # fmt: skip
WHITE, DARK, RING = (255, 255, 255), (28, 26, 24), (255, 224, 64)
FEW = 8
"""Up to this many points on a part are drawn as a ring."""
SHUT = 0.22
"""An eye that is less open than this gets no iris; examples/face.yaml has the measurement."""
TURNED = 0.5
"""An eye with less than this part of the other eye's width is turned away, and not drawn."""
AXES: tuple[tuple[tuple[float, float, float], Color], ...] = (
    ((1.0, 0.0, 0.0), (80, 80, 240)),
    ((0.0, -1.0, 0.0), (90, 220, 90)),
    ((0.0, 0.0, -1.0), (255, 140, 60)),
)
"""Axes of a head that faces the camera (x right, y down, z away): right red, up green, nose blue."""
BODY_POINTS = 33
LIMBS = (
    (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24),
    (23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (15, 19), (16, 20),
)  # fmt: skip
"""Which of mediapipe's pose points are joined (shoulders 11 and 12, hips 23 and 24, ankles 27 and 28 …)."""
SUB = 4
"""Fractional bits of coordinates given to OpenCV: sixteenths of a pixel."""


@dataclass(frozen=True)
class _Plate:
    x: int
    y: int
    width: int
    height: int

    def overlap(self, other: tuple[float, float, float, float]) -> float:
        x0, y0, x1, y1 = other
        wide = min(self.x + self.width, x1) - max(self.x, x0)
        high = min(self.y + self.height, y1) - max(self.y, y0)
        return max(0.0, wide) * max(0.0, high)

    @property
    def box(self) -> tuple[float, float, float, float]:
        return (self.x, self.y, self.x + self.width, self.y + self.height)


def annotate(image: Pixels, objects: Sequence[Mapping[str, Any]]) -> Pixels:
    """Return a copy of `image` (H×W×3, B, G, R) with `objects` drawn on it, coordinates in pixels of `image`.

    An image whose shorter side is below 480 pixels is enlarged by a whole factor.
    """
    factor = max(1, math.ceil(LEAST_SIDE / max(1, min(image.shape[:2]))))
    if max(image.shape[:2]) * factor > 1 << 14:
        factor = 1
    canvas = image.copy()
    if factor > 1:
        canvas = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    line = max(2, round(min(canvas.shape[:2]) / 360))
    boxed = [(one, box) for one in objects if (box := _box(one, factor)) is not None]
    for index, (one, box) in enumerate(boxed):
        _outline(canvas, one, box, factor, line, PALETTE[index % len(PALETTE)])
    _plates(canvas, boxed, line)
    return canvas


def _box(one: Mapping[str, Any], factor: int) -> tuple[float, float, float, float] | None:
    box = one.get("box")
    points = _points([box[:2], box[2:]] if isinstance(box, list | tuple) and len(box) == 4 else None, factor)
    return None if points is None else (points[0, 0], points[0, 1], points[1, 0], points[1, 1])


def _points(value: Any, factor: int) -> NDArray[np.float64] | None:
    """Return K×2 canvas pixels, or None unless `value` is a list of finite points that OpenCV can draw."""
    try:
        points = np.asarray(value, np.float64)[:, :2] * factor
    except (TypeError, ValueError, IndexError):
        return None
    drawable = points.ndim == 2 and points.shape[1] == 2 and len(points) > 0
    return points if drawable and bool((np.abs(points) < 1 << 20).all()) else None


def _outline(
    canvas: Pixels, one: Mapping[str, Any], box: tuple[float, float, float, float], factor: int, line: int, color: Color
) -> None:
    """Draw everything of one object but its text."""
    _rectangle(canvas, box, color, line)
    width = box[2] - box[0]
    own = _points(one.get("points"), factor)
    if own is not None:
        _dots(canvas, own, max(1.2 * line, width / 50), color)
    _outputs(canvas, one, box, factor, line, color)


def _outputs(
    canvas: Pixels, one: Mapping[str, Any], box: tuple[float, float, float, float], factor: int, line: int, color: Color
) -> None:
    """Draw the outputs of child nodes for one object."""
    width = box[2] - box[0]
    for child in _children(one):
        mesh = _points(child.get("points"), factor) if _number(child.get("score"), 1.0) >= SEEN else None
        if mesh is not None and isinstance(child.get("visibility"), list):
            _skeleton(canvas, mesh, child["visibility"], line, color)
        elif mesh is not None:
            dense = len(mesh) > 30  # a mesh on a small face must not hide it
            radius = max(0.5, width / 220) if dense else max(min(line, width / 24), width / 60)
            _dots(canvas, mesh, radius, WHITE, 0.65 * min(1.0, width / 140) if dense else 0.8)
        nested = child.get("pose")
        pose: Mapping[str, Any] = nested if isinstance(nested, Mapping) else child
        if {"yaw", "pitch", "roll"} <= pose.keys() and _number(child.get("score"), 1.0) >= SEEN:
            centre = mesh.mean(axis=0) if mesh is not None else np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
            _axes(canvas, centre, pose, width * 0.6, line + 1)
        inners = [(inner, _box(inner, factor)) for inner in child.get("objects") or () if isinstance(inner, Mapping)]
        widest = max((box[2] - box[0] for _, box in inners if box is not None), default=0.0)
        for inner, inner_box in inners:
            if inner_box is not None and mesh is not None:  # a part of what the points show: they outline it already
                if inner_box[2] - inner_box[0] >= TURNED * widest and not _shut(inner):
                    _ring(canvas, inner, factor, line)
                    _outputs(canvas, inner, inner_box, factor, max(1, line - 1), color)
            elif inner_box is not None:
                _outline(canvas, inner, inner_box, factor, max(1, line - 1), color)


def _shut(part: Mapping[str, Any]) -> bool:
    """Return whether a child node found that an eye is shut."""
    return any(_number(child.get("open"), 1.0) < SHUT for child in _children(part))


def _ring(canvas: Pixels, part: Mapping[str, Any], factor: int, line: int) -> None:
    """Draw a ring around the few points that a child node found on a part, such as an iris."""
    for child in _children(part):
        points = _points(child.get("points"), factor)
        if points is not None and 2 < len(points) <= FEW:
            (x, y), radius = cv2.minEnclosingCircle(points.astype(np.float32))
            for shade, thickness in ((DARK, line + 1), (RING, max(1, line - 1))):
                cv2.circle(canvas, _fixed((x, y)), round(radius * (1 << SUB)), shade, thickness, cv2.LINE_AA, SUB)


def _skeleton(canvas: Pixels, points: NDArray[np.float64], visibility: Sequence[Any], line: int, color: Color) -> None:
    """Draw the visible joints of a body and, for mediapipe's 33 points, its limbs."""
    seen = [_number(one, 0.0) >= SEEN for one in visibility]
    if len(seen) != len(points):
        return
    for a, b in LIMBS if len(points) == BODY_POINTS else ():
        if seen[a] and seen[b]:
            ends = [tuple(np.rint(points[i] * (1 << SUB)).astype(int).tolist()) for i in (a, b)]
            cv2.line(canvas, ends[0], ends[1], color, line + 1, cv2.LINE_AA, SUB)
    if any(seen):
        _dots(canvas, points[np.array(seen)], 1.2 * line, WHITE)


def _children(one: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (value for key, value in one.items() if key not in OWN_KEYS and isinstance(value, Mapping))


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else default


def _fixed(point: NDArray[np.float64] | tuple[float, float]) -> tuple[int, int]:
    """Return a point, pixel centres at integer + 0.5, as OpenCV's fixed-point coordinates."""
    return round((point[0] - 0.5) * (1 << SUB)), round((point[1] - 0.5) * (1 << SUB))


def _rectangle(canvas: Pixels, box: tuple[float, float, float, float], color: Color, line: int) -> None:
    for shade, thickness in ((DARK, line + 2), (color, line)):
        cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), shade, thickness, cv2.LINE_AA, SUB)


def _dots(canvas: Pixels, points: NDArray[np.float64], radius: float, color: Color, opacity: float = 1.0) -> None:
    """Draw filled circles; with `opacity` below 1 the image shows through."""
    reach = math.ceil(radius) + 2
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - reach, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + reach, canvas.shape[1::-1])
    if (high <= low).any():
        return
    part = canvas[low[1] : high[1], low[0] : high[0]]
    layer = part.copy()
    for point in points - low:
        cv2.circle(layer, _fixed(point), round(radius * (1 << SUB)), color, cv2.FILLED, cv2.LINE_AA, SUB)
    part[:] = cv2.addWeighted(layer, opacity, part, 1 - opacity, 0)


def _axes(canvas: Pixels, centre: NDArray[np.float64], pose: Mapping[str, Any], length: float, line: int) -> None:
    """Draw where a head's right, up and nose point; angles as the landmarks task defines them."""
    yaw, pitch, roll = (math.radians(_number(pose[name], 0.0)) for name in ("yaw", "pitch", "roll"))
    rotation = cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(np.array([0, -yaw, 0]))[0]
    rotation = rotation @ cv2.Rodrigues(np.array([-pitch, 0, 0]))[0]
    tips = [(rotation @ axis, color) for axis, color in AXES]
    for tip, color in sorted(tips, key=lambda item: -float(item[0][2])):  # the nearest one last
        end = centre + tip[:2] * length
        for shade, thickness in ((DARK, line + 2), (color, line)):
            cv2.line(canvas, _fixed(centre), _fixed(end), shade, thickness, cv2.LINE_AA, SUB)


def caption(one: Mapping[str, Any]) -> str:
    """Return the outputs of child nodes for an object, e.g. ``female 97% · 31 y · happy 83%``.

    Without any in words or numbers it is the object's own label and score. The outputs for objects found in it follow:
    ``car 87% · AB 123 98%``.
    """
    parts = [part for child in _children(one) if (part := _words(child))] or [own for own in [_words(one)] if own]
    return printable(" · ".join([*parts, *_deeper(one)]))


def _deeper(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield the outputs for the objects that child nodes found in `one`, on all levels."""
    for child in _children(one):
        for inner in child.get("objects") or ():
            if isinstance(inner, Mapping):
                yield from (part for output in _children(inner) if (part := _words(output)))
                yield from _deeper(inner)


def _words(item: Mapping[str, Any]) -> str:
    text = next((item[key] for key in ("text", "label") if isinstance(item.get(key), str) and item[key]), None)
    score = item.get("score")
    if text is not None:
        return f"{text} {score:.0%}" if isinstance(score, int | float) and math.isfinite(score) else text
    value = item.get("value")
    if isinstance(value, int | float) and math.isfinite(value):
        return quantity(value, str(item.get("unit") or ""))
    if isinstance(item.get("attributes"), Mapping):
        return " ".join(_attributes(item["attributes"]))
    return f"#{item['identity']}" if isinstance(item.get("identity"), int) else ""


def _attributes(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values of classes, and the names of flags that are set."""
    for name, value in attributes.items():
        if isinstance(value, Mapping):
            yield str(value.get("label", ""))
        elif _number(value, 0.0) >= SEEN:
            yield name


def _plates(
    canvas: Pixels, boxed: Sequence[tuple[Mapping[str, Any], tuple[float, float, float, float]]], line: int
) -> None:
    """Write each object's caption near its box, where it covers no other caption and as few objects as possible."""
    rows, columns = canvas.shape[:2]
    size = max(13, round(min(rows, columns) / 38))
    placed: list[_Plate] = []
    for index, (one, box) in enumerate(boxed):
        text = caption(one)
        if not text:
            continue
        text = _fit(text, size, columns - size)
        plate = _place(text_width(text, size) + size, round(size * 1.5), box, line, (columns, rows), placed, boxed)
        placed.append(plate)
        part = canvas[plate.y : plate.y + plate.height, plate.x : plate.x + plate.width]
        part[:] = cv2.addWeighted(part, 0.25, np.full_like(part, DARK), 0.75, 0)
        part[:, : max(2, line + 1)] = PALETTE[index % len(PALETTE)]
        put_text(canvas, text, plate.x + size // 2 + line, plate.y + round(size * 1.1), size, WHITE)


def _fit(text: str, size: int, room: int) -> str:
    """Shorten `text` until it fits into `room` pixels."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"


def _place(
    width: int,
    height: int,
    box: tuple[float, float, float, float],
    line: int,
    canvas: tuple[int, int],
    placed: Sequence[_Plate],
    boxed: Sequence[tuple[Mapping[str, Any], tuple[float, float, float, float]]],
) -> _Plate:
    """Choose a place at the box: above, below, left or right of it, or inside at the top; the first one wins a tie."""
    x0, y0, x1, y1 = box
    gap = line + 2
    spots = [
        (x0, y0 - height - gap),
        (x1 - width, y0 - height - gap),
        (x0, y1 + gap),
        (x1 - width, y1 + gap),
        (x1 + gap, y0),
        (x0 - width - gap, y0),
        (x0, y0 - 2 * height - 2 * gap),
        (x0, y1 + height + 2 * gap),
        (x0, y0 + gap),
    ]
    best, least = None, math.inf
    for order, (x, y) in enumerate(spots):
        inside_x = min(max(0, round(x)), max(0, canvas[0] - width))
        inside_y = min(max(0, round(y)), max(0, canvas[1] - height))
        plate = _Plate(inside_x, inside_y, min(width, canvas[0]), min(height, canvas[1]))
        cost = 10 * sum(plate.overlap(other.box) for other in placed) + sum(plate.overlap(b) for _, b in boxed)
        cost += order * 0.01 * width * height
        if cost < least:
            best, least = plate, cost
    assert best is not None
    return best
