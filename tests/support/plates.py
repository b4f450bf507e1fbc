"""Licence plates drawn onto pictures, where no photograph with a readable one can be had."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

FINE = 4
"""Plates are drawn so many times finer than the picture, then averaged: no jagged edges."""


def plate(text: str, size: tuple[int, int] = (440, 140)) -> Pixels:
    """A blue plate with white Latin letters and digits."""
    width, height = size
    image = np.full((height, width, 3), (160, 60, 20), np.uint8)
    cv2.rectangle(image, (5, 5), (width - 6, height - 6), (255, 255, 255), 4)
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(2, height // 14)
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, thick)
    scale = min((width - 50) / wide, height * 0.62 / high)
    (wide, high), _ = cv2.getTextSize(text, font, scale, thick)
    cv2.putText(
        image, text, ((width - wide) // 2, (height + high) // 2), font, scale, (255, 255, 255), thick, cv2.LINE_AA
    )
    return image


def corners(centre: tuple[float, float], width: float, tilt: float = 0.05) -> NDArray[np.float64]:
    """A plate's corners about `centre`, clockwise from top left, falling to the right by `tilt` of its width."""
    x, y = width / 2, width * 0.16
    askew = np.array([[-x, -y - tilt * x], [x, -y + tilt * x], [x, y + tilt * x], [-x, y - tilt * x]])
    return askew + centre


def put(picture: Pixels, what: Pixels, where: NDArray[np.float64]) -> Pixels:
    """A copy of `picture` with `what` on the quadrilateral `where`, in perspective."""
    height, width = what.shape[:2]
    rows, columns = picture.shape[:2]
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    to = cv2.getPerspectiveTransform(source, (where * FINE).astype(np.float32))
    fine = (columns * FINE, rows * FINE)

    def warped(image: Pixels) -> Pixels:
        return np.asarray(
            cv2.resize(cv2.warpPerspective(image, to, fine), (columns, rows), interpolation=cv2.INTER_AREA)
        )

    share = warped(np.full((height, width, 3), 255, np.uint8)) / 255
    return (picture * (1 - share) + warped(what) * share).astype(np.uint8)
