"""Maps of a result on its picture: classes of pixels as translucent colors with their names, depths as a scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.sinks.draw_plates import Plate, letters, name_on
from hams_services.sinks.draw_text import Color, Pixels, text_width
from hams_services.sinks.draw_words import children, inner_objects, is_carried
from hams_shared.errors import MessageError
from hams_shared.wire import maps

OPACITY = {"classes": 0.45, "depth": 0.65}
LEAST_NAMED = 0.02
"""Part of the picture that a class must cover to have its name on it."""
MAX_NAMES = 24
COARSE = 4
"""Names are placed by every fourth pixel."""
_Name = tuple[str, Color, int, int]
"""Name, colour, and x and y of its middle."""


def maps_on(canvas: Pixels, objects: Sequence[Mapping[str, Any]], factor: int) -> list[Plate]:
    """Draw all maps among `objects` and what nodes output for them; return the plates of classes' names.

    `factor` is how many pixels of `canvas` a pixel of the frame has. A map that cannot be read is left out.
    """
    names: list[_Name] = []
    for one in _maps(objects):
        pixels, to_canvas = _pixels(one), _affine(one.get("to_frame"), factor)
        place = None if pixels is None or to_canvas is None else _place(canvas, pixels, to_canvas)
        if place is None:
            continue
        (left, top), values, shown = place
        part = canvas[top : top + values.shape[0], left : left + values.shape[1]]
        if "scale" in one:
            _depth(part, values, shown, one.get("kind") == "metric")
        elif isinstance(one.get("labels"), Mapping):
            names += [
                (name, color, left + x, top + y) for name, color, x, y in _classes(part, values, shown, one["labels"])
            ]
    size = letters(canvas)
    return [
        name_on(canvas, name, (x - text_width(name, size) / 2, y - size * 0.6), color) for name, color, x, y in names
    ]


def _maps(objects: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in objects:
        for child in children(one):
            if not is_carried(child):
                if isinstance(child.get("map"), Mapping):
                    yield child["map"]
                yield from _maps(inner_objects(child))


def _pixels(one: Mapping[str, Any]) -> NDArray[Any] | None:
    try:
        return maps.pixels(one)
    except MessageError:
        return None


def _affine(value: Any, factor: int) -> NDArray[np.float64] | None:
    """Return the map from pixels of a map to those of the canvas; None unless it is one that can be inverted."""
    try:
        affine = np.asarray(value, np.float64) * factor
    except (TypeError, ValueError):
        return None
    fine = affine.shape == (2, 3) and bool((np.abs(affine) < 1 << 20).all())
    return affine if fine and abs(float(np.linalg.det(affine[:, :2]))) > 1e-9 else None


def _place(
    canvas: Pixels, pixels: NDArray[Any], to_canvas: NDArray[np.float64]
) -> tuple[tuple[int, int], NDArray[Any], NDArray[np.bool_]] | None:
    """Return x and y of the top left of a map on the canvas, its values from there on, and where it has some."""
    rows, columns = pixels.shape
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]]) @ to_canvas[:, :2].T + to_canvas[:, 2]
    low = np.floor(corners.min(axis=0)).clip(0, canvas.shape[1::-1]).astype(int)
    high = np.ceil(corners.max(axis=0)).clip(0, canvas.shape[1::-1]).astype(int)
    if (high <= low).any():
        return None
    centred = to_canvas.copy()  # OpenCV counts pixel centres at integers
    centred[:, 2] += to_canvas[:, :2] @ (0.5, 0.5) - 0.5 - low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    values = cv2.warpAffine(pixels, centred, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    inside = np.full(pixels.shape, 255, np.uint8)
    shown = np.asarray(cv2.warpAffine(inside, centred, size, flags=cv2.INTER_NEAREST)) > 0
    return (int(low[0]), int(low[1])), np.asarray(values), shown


def _blend(part: Pixels, layer: Pixels, where: NDArray[np.bool_], opacity: float) -> None:
    mixed = cv2.addWeighted(layer, opacity, part, 1 - opacity, 0)
    cv2.copyTo(mixed, where.view(np.uint8), part)


def _depth(part: Pixels, values: NDArray[Any], shown: NDArray[np.bool_], farther: bool) -> None:
    """Colour what is near red, what is far blue."""
    levels = np.asarray(values >> 8 if values.dtype == np.uint16 else values, np.uint8)
    layer = cv2.applyColorMap(255 - levels if farther else levels, cv2.COLORMAP_TURBO)
    _blend(part, np.asarray(layer, np.uint8), shown, OPACITY["depth"])


def class_color(number: int) -> Color:
    """Return the colour of a class: neighbours in number differ most in hue, and every third is darker."""
    hue = int(number * 0.618034 * 180 + 8) % 180
    pixel = np.array([[[hue, 200 - 60 * (number % 2), 255 - 70 * (number % 3 == 2)]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def _classes(part: Pixels, values: NDArray[Any], shown: NDArray[np.bool_], labels: Mapping[Any, Any]) -> list[_Name]:
    """Colour the classes that have a label; return name, colour and a place of each that is large."""
    known = {int(key): str(name) for key, name in labels.items() if str(key).isdecimal() and int(key) < 1 << 16}
    colors = np.zeros((max(int(values.max()), *known, 255) + 1, 3), np.uint8)
    drawn = np.zeros(len(colors), np.uint8)
    for number in known:
        colors[number], drawn[number] = class_color(number), 255
    if values.dtype == np.uint8:  # three times as fast as indexing
        layer = cv2.LUT(cv2.merge((values, values, values)), colors[None, :256])
        where = cv2.LUT(values, drawn[:256])
    else:
        layer, where = colors.take(values, axis=0), drawn.take(values)
    _blend(part, np.asarray(layer, np.uint8), shown & (np.asarray(where) > 0), OPACITY["classes"])
    few, seen = values[::COARSE, ::COARSE], shown[::COARSE, ::COARSE]
    counts = np.bincount(few[seen], minlength=len(colors))
    large = [number for number in known if counts[number] >= LEAST_NAMED * few.size]
    large = sorted(large, key=lambda number: -counts[number])[:MAX_NAMES]
    return [(known[number], class_color(number), *_middle((few == number) & seen)) for number in large]


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return x and y of the pixel that is deepest in a region of every `COARSE`-th pixel."""
    padded = np.pad(mask.view(np.uint8), 1)
    y, x = np.unravel_index(int(cv2.distanceTransform(padded, cv2.DIST_L2, 3).argmax()), padded.shape)
    return COARSE * (int(x) - 1), COARSE * (int(y) - 1)
