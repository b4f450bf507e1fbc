"""How well an object shows in a frame, to choose the one that a node looks at. Pure.

    quality = area · score · frontal · sharp

`area` is that of the box in pixels of the frame, as far as it lies within; `score` the detector's, 0..1; `frontal`
tells for faces with five key points (eyes, nose, mouth) how near the nose is to the middle between the eyes: 1 in the
middle, 0.25 at one eye or beyond; `sharp` is 1 - 1 / (1 + v / 100), at least 0.1, v the variance of the Laplacian
(Pech-Pacheco et al., *Diatom autofocusing in brightfield microscopy*, ICPR 2000) of the box in a small grey image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from hams_services.pipeline.luma import Luma

FACE_POINTS = 5
TYPICAL = 100.0
"""A variance of the Laplacian that is neither sharp nor blurred, grey levels²."""


def quality(one: Mapping[str, Any], luma: Luma | None, size: tuple[int, int]) -> float:
    """Return the quality of an object of a result in a frame of `size` (width, height); see above."""
    x0, y0, x1, y1 = one["box"]
    width, height = size
    left, top, right, bottom = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    if right <= left or bottom <= top:
        return 0.0
    area = (right - left) * (bottom - top)
    return float(area * one["score"] * frontal(one.get("points")) * _sharp((left, top, right, bottom), luma, size))


def frontal(points: Sequence[Sequence[float]] | None) -> float:
    """Return how frontal a face is, 0.25..1, by its points: two eyes, nose, two corners of the mouth; 1 of others."""
    if points is None or len(points) != FACE_POINTS:
        return 1.0
    (ax, ay), (bx, by), (nx, ny) = points[0], points[1], points[2]
    across = (bx - ax) ** 2 + (by - ay) ** 2
    if across <= 0:
        return 0.25
    at = ((nx - ax) * (bx - ax) + (ny - ay) * (by - ay)) / across
    return max(0.25, 1.0 - 1.5 * abs(at - 0.5))


def _sharp(box: tuple[float, float, float, float], luma: Luma | None, size: tuple[int, int]) -> float:
    if luma is None:
        return 1.0
    across, down = luma.shape[1] / size[0], luma.shape[0] / size[1]
    part = luma[int(box[1] * down) : int(box[3] * down) + 1, int(box[0] * across) : int(box[2] * across) + 1]
    if min(part.shape) < 3:
        return 0.5
    variance = float(np.var(cv2.Laplacian(part, cv2.CV_32F)))
    return max(1.0 - 1.0 / (1.0 + variance / TYPICAL), 0.1)
