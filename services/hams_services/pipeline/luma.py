"""The small grey image of a frame that the motion gate and the optical flow look at. Pure.

It is made once a frame, and must cost little: a 1080p frame has 6 MB, and reading all of it takes longer than 0.5 ms.
So of a large frame one row in `k` is read, and of each row two green and one red value in `k`. Measured on 1080p,
CPU: 0.15 to 0.30 ms; grey of one row in five 0.20 ms, and with two pixels in five averaged 0.32 ms, with INTER_LINEAR
0.35 ms, with INTER_AREA 0.56 ms; INTER_NEAREST before grey 0.90 ms; grey of the whole frame 0.83 ms.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

GREEN = 0.66
"""Weight of green beside red, as in BT.601; blue, which has a ninth of grey there, is left out of large frames."""
WIDTH, SAMPLED_WIDTH = 384, 320
"""Widest small image, pixels, of means and of samples: the optical flow is as good as with more, see
tracking/flow.py."""


def small_luma(pixels: NDArray[np.uint8]) -> Luma:
    """Return the grey levels (BT.601) of an H×W×3 B, G, R image, reduced by a whole number k.

    The result has H//k × W//k pixels, 1×1 at least. Frames up to twice as wide as `WIDTH` are reduced by means of 2×2
    pixels, if at all; wider ones by samples, without blue, with the least k for which W/k <= `SAMPLED_WIDTH`. Pixels
    at the right and lower edge that are no whole `k` are left out.
    """
    height, width = pixels.shape[:2]
    k = -(-width // WIDTH)
    if k > 2:
        k = -(-width // SAMPLED_WIDTH)
    down, across = max(height // k, 1), width // k
    if k <= 2:
        grey = np.asarray(cv2.cvtColor(pixels[: down * k, : across * k], cv2.COLOR_BGR2GRAY), np.uint8)
        return grey if k == 1 else np.asarray(cv2.resize(grey, (across, down), interpolation=cv2.INTER_AREA), np.uint8)
    rows = pixels[min(k // 2, height - 1) :: k][:down]
    places = ((k // 4, 1), (-(-k // 2), 1), (-(-k // 2), 2))  # column, and 1 for green, 2 for red
    one, other, red = (np.ascontiguousarray(rows[:, column::k, band][:, :across]) for column, band in places)
    green = cv2.addWeighted(one, 0.5, other, 0.5, 0)
    return np.asarray(cv2.addWeighted(green, GREEN, red, 1 - GREEN, 0), np.uint8)
