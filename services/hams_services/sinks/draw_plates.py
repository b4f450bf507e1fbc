"""Plates on a picture: captions of objects and names of places, where they cover as little as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.sinks.draw_strokes import DARK, FADED, WHITE, Box
from hams_services.sinks.draw_text import Color, Pixels, put_text, text_width
from hams_services.sinks.draw_words import BETWEEN, Words


@dataclass(frozen=True)
class Plate:
    """Where a plate is, pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def box(self) -> Box:
        """Its corners."""
        return (self.x, self.y, self.x + self.width, self.y + self.height)


@dataclass(frozen=True)
class Caption:
    """What is written of one object."""

    words: Sequence[Words]
    box: Box
    color: Color
    badge: str = ""
    """Written before the words, on `color`: the id of its track."""


def letters(canvas: Pixels) -> int:
    """Return the height of letters for a picture, pixels: as high as a line of a book at arm's length."""
    return max(13, round(int(min(canvas.shape[:2])) / 38))


def captions_on(canvas: Pixels, captions: Sequence[Caption], line: int, placed: Sequence[Plate] = ()) -> None:
    """Write each caption near its box, where it covers no other, nothing `placed` and as few objects as possible."""
    rows, columns = canvas.shape[:2]
    size = letters(canvas)
    taken, boxes = [*placed], [one.box for one in captions]
    for one in captions:
        text = BETWEEN.join(part.text for part in one.words)
        if not text and not one.badge:
            continue
        badge = text_width(one.badge, size) + round(size * 0.7) if one.badge else 0
        text = _fit(text, size, columns - size - badge)
        width = badge + (text_width(text, size) + size if text else 0)
        plate = _place(width, round(size * 1.5), one.box, line, (columns, rows), taken, boxes)
        taken.append(plate)
        part = _backed(canvas, plate)
        part[:, : badge or max(2, line + 1)] = one.color
        baseline = plate.y + round(size * 1.1)
        if badge:
            put_text(canvas, one.badge, plate.x + round(size * 0.35), baseline, size, _ink(one.color))
        start = plate.x + badge + size // 2 + (0 if badge else line)
        for piece, before, carried in _runs(text, one.words):
            put_text(canvas, piece, start + text_width(before, size), baseline, size, FADED if carried else WHITE)


def name_on(canvas: Pixels, name: str, at: tuple[float, float], color: Color) -> Plate:
    """Write a place's name on a small plate whose top left is `at`, or as near as the picture allows."""
    size = max(12, round(letters(canvas) * 0.8))
    rows, columns = canvas.shape[:2]
    text = _fit(name, size, columns - size)
    width, height = min(text_width(text, size) + size, columns), min(round(size * 1.45), rows)
    x, y = (min(max(0, round(value)), limit) for value, limit in zip(at, (columns - width, rows - height), strict=True))
    plate = Plate(x, y, width, height)
    _backed(canvas, plate)
    put_text(canvas, text, x + size // 2, y + round(size * 1.05), size, color)
    return plate


def _backed(canvas: Pixels, plate: Plate) -> Pixels:
    """Darken the place of a plate; return that part of `canvas`."""
    part = canvas[plate.y : plate.y + plate.height, plate.x : plate.x + plate.width]
    part[:] = cv2.addWeighted(part, 0.25, np.full_like(part, DARK), 0.75, 0)
    return part


def _ink(color: Color) -> Color:
    """Return the colour of letters on `color`, by its luma (ITU-R BT.601)."""
    return DARK if 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2] > 110 else WHITE


def _runs(text: str, words: Sequence[Words]) -> Iterator[tuple[str, str, bool]]:
    """Split a caption, perhaps shortened, where fresh words and those carried on meet: the piece, what is before it."""
    start = at = 0
    for index, part in enumerate(words):
        at += len(part.text) + (len(BETWEEN) if index else 0)
        if index + 1 == len(words) or words[index + 1].carried != part.carried:
            end = len(text) if index + 1 == len(words) else min(at, len(text))
            if end > start:
                yield text[start:end], text[:start], part.carried
            start = end


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
    box: Box,
    line: int,
    canvas: tuple[int, int],
    placed: Sequence[Plate],
    boxes: Sequence[Box],
) -> Plate:
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
    high = [max(0, canvas[0] - width), max(0, canvas[1] - height)]
    corners = np.clip(np.rint(np.array(spots)), 0, high)
    plates = np.hstack([corners, np.add(corners, [min(width, canvas[0]), min(height, canvas[1])])])
    cost = 10 * _covered(plates, [other.box for other in placed]) + _covered(plates, boxes)
    x, y = corners[np.argmin(cost + np.arange(len(spots)) * 0.01 * width * height)].astype(int).tolist()
    return Plate(x, y, min(width, canvas[0]), min(height, canvas[1]))


def _covered(plates: NDArray[np.float64], boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Return for each of N×4 `plates` the area that it shares with all `boxes`, pixels."""
    others = np.array(boxes, np.float64).reshape(-1, 4)
    shared = np.minimum(plates[:, None, 2:], others[:, 2:]) - np.maximum(plates[:, None, :2], others[:, :2])
    return np.asarray(np.maximum(shared, 0).prod(axis=2).sum(axis=1))
