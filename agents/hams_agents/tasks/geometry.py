"""Affine maps between pixel grids, and the resampling that goes with them.

Everywhere in HAMS a pixel's centre is at integer + 0.5, so that scaling an image by s scales its coordinates by s.
OpenCV's warps count centres at integers; :func:`opencv_map` converts.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine

Pixels = NDArray[np.uint8]
Homography = NDArray[np.float64]
"""3×3 matrix that maps (x, y, 1) of one pixel grid to w (x, y, 1) of another."""

IDENTITY: Affine = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
IDENTITY.setflags(write=False)
HALVED = 2.0
"""Where a pixel of the result spans so many of the image's, the image is halved first."""


def scaling(x: float, y: float) -> Affine:
    """Return the map that multiplies by `x` and `y`."""
    return np.array([[x, 0.0, 0.0], [0.0, y, 0.0]])


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the map that applies `inner` first, then `outer`."""
    result = outer[:, :2] @ inner
    result[:, 2] += outer[:, 2]
    return result


def invert(affine: Affine) -> Affine:
    """Return the inverse map. Raises numpy's LinAlgError when there is none."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack((linear, -linear @ affine[:, 2]))


def apply(affine: Affine, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map …×2 points."""
    mapped: NDArray[np.float64] = points @ affine[:, :2].T + affine[:, 2]
    return mapped


def opencv_map(affine: Affine) -> Affine:
    """Return the same map for coordinates that count pixel centres at integers."""
    result = affine.copy()
    result[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5
    return result


def boxes_through(affine: Affine, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map K×4 boxes (x0, y0, x1, y1) to the upright boxes around their images."""
    corners = apply(affine, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def inside(width: float, height: float, size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (width, height) within `size` that has the proportions `width` : `height`; 1 at least."""
    factor = min(size[0] / width, size[1] / height)
    return min(size[0], max(1, round(width * factor))), min(size[1], max(1, round(height * factor)))


def perspective(corners: NDArray[np.float64], size: tuple[int, int]) -> Homography:
    """Return the map of a rectangle (0, 0) – `size` onto the quadrilateral `corners` (4×2, clockwise from top left)."""
    width, height = size
    rectangle = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(rectangle, corners.astype(np.float32)), np.float64)


def nearest_affine(corners: NDArray[np.float64], size: tuple[int, int]) -> Affine:
    """Return the affine map whose error at the rectangle's corners is least, in the mean of squares.

    It is exact when `corners` are those of a parallelogram.
    """
    width, height = size
    top_left, top_right, bottom_right, bottom_left = corners
    along = (top_right + bottom_right - top_left - bottom_left) / (2 * width)
    down = (bottom_left + bottom_right - top_left - top_right) / (2 * height)
    return np.column_stack((along, down, corners.mean(axis=0) - along * width / 2 - down * height / 2))


def shrink(image: Pixels, x: float, y: float) -> Pixels:
    """Halve an H×W×C image while its `x` (`y`) factor of reduction still to come is 2 or more.

    What is left to do, a factor below 2, bilinear sampling does without visible aliasing. A chain of halvings, which
    OpenCV runs as exact 2×2 means in SIMD, takes a third of the time of INTER_AREA at factors that are not whole.
    """
    while x >= HALVED or y >= HALVED:
        height, width = image.shape[:2]
        half_width = (width + 1) // 2 if x >= HALVED else width
        half_height = (height + 1) // 2 if y >= HALVED else height
        if (half_width, half_height) == (width, height):
            break
        image = cv2.resize(image, (half_width, half_height), interpolation=cv2.INTER_LINEAR)
        x, y = (x / 2 if x >= HALVED else x), (y / 2 if y >= HALVED else y)
    return image
