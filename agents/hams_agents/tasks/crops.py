"""Crops of the objects a detector found, as the child networks expect them.

Where a crop reaches beyond the image its border pixels are repeated: networks react less to smeared skin or
background than to a black edge, and it is what mediapipe does for its landmark networks. A box that is not finite,
has no area, or lies outside the image gives no crop; its object simply has no entry of the child in the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected
from hams_agents.tasks.geometry import Pixels, apply, compose, invert, opencv_map, shrink
from hams_shared.group_spec import CropSpec

MIN_EYES = 0.05
"""Eyes nearer to each other than this part of the box's width (a profile) say nothing about its tilt."""


def cut(
    image: Pixels, to_frame: Affine | None, objects: Sequence[Detected], crop: CropSpec, size: tuple[int, int]
) -> tuple[Pixels, NDArray[np.float64], list[int]]:
    """Cut one crop per wanted object out of `image` (H×W×3).

    `to_frame` maps image pixels to frame pixels (None: the same), `size` is the crops' (width, height). Returns
    crops N×height×width×3, N×2×3 maps from crop pixels to frame pixels, and which of `objects` they show, ascending.
    With none wanted N is 0.
    """
    width, height = size
    to_image = None if to_frame is None else invert(to_frame)
    wanted = _wanted(objects, crop)
    crops = np.empty((len(wanted), height, width, 3), np.uint8)
    maps = np.empty((len(wanted), 2, 3))
    kept: list[int] = []
    for index in wanted:
        to = crop_map(objects[index], crop, size)
        source = to if to_image is None else compose(to_image, to)
        if _sample(image, source, crops[len(kept)]):
            maps[len(kept)] = to
            kept.append(index)
    return crops[: len(kept)], maps[: len(kept)], kept


def _wanted(objects: Sequence[Detected], crop: CropSpec) -> list[int]:
    """Return which objects get a crop: right label, a box with an area, the best `max_count`; ascending."""
    found = [
        index
        for index, one in enumerate(objects)
        if (not crop.labels or one.label in crop.labels)
        and all(map(math.isfinite, one.box))
        and one.box[2] > one.box[0]
        and one.box[3] > one.box[1]
    ]
    if len(found) > crop.max_count:
        found = sorted(found, key=lambda index: -objects[index].score)[: crop.max_count]
    return sorted(found)


def crop_map(one: Detected, crop: CropSpec, size: tuple[int, int]) -> Affine:
    """Return the map from crop pixels to frame pixels for one object.

    The crop's centre is the box's; enlarging and levelling the eyes happen about it.
    """
    x0, y0, x1, y1 = one.box
    width, height = size
    scale_x = (x1 - x0) * crop.enlarge / width
    scale_y = (y1 - y0) * crop.enlarge / height
    if crop.square:
        scale_x = scale_y = max(scale_x, scale_y)
    angle = _tilt(one) if crop.align == "eyes" else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.column_stack((linear, centre - linear @ (width / 2, height / 2)))


def _tilt(one: Detected) -> float:
    """Return the angle, radians, by which the line through the first two points is turned; 0 when they are unfit."""
    if one.points is None or len(one.points) < 2:
        return 0.0
    dx, dy = (float(v) for v in one.points[1] - one.points[0])
    distance = math.hypot(dx, dy)
    if not math.isfinite(distance) or distance < MIN_EYES * (one.box[2] - one.box[0]):
        return 0.0
    return math.atan2(dy, dx)


def _sample(image: Pixels, to_image: Affine, target: Pixels) -> bool:
    """Fill `target` (h×w×3) from `image`; False when the crop lies wholly outside it.

    Only the part of the image under the crop is touched, and it is halved as often as bilinear sampling needs.
    """
    height, width = target.shape[:2]
    rows, columns = image.shape[:2]
    factors = np.hypot(to_image[0, :2], to_image[1, :2])
    if not (np.isfinite(to_image).all() and factors.min() > 0 and rows and columns):
        return False
    corners = apply(to_image, np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    if low[0] >= columns or low[1] >= rows or high[0] <= 0 or high[1] <= 0:
        return False
    margin = 2 * float(factors.max()) + 2
    x0, y0 = (int(v) for v in np.clip(np.floor(low - margin), 0, (columns - 1, rows - 1)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(high + margin), (x0 + 1, y0 + 1), (columns, rows)))
    part = image[y0:y1, x0:x1]
    upright = to_image[0, 1] == 0 == to_image[1, 0]
    factor_x, factor_y = factors if upright else (factors.min(), factors.min())
    small = shrink(part, float(factor_x), float(factor_y))
    ratio_x, ratio_y = small.shape[1] / part.shape[1], small.shape[0] / part.shape[0]
    to_small = to_image.copy()
    to_small[:, 2] -= (x0, y0)
    to_small *= [[ratio_x], [ratio_y]]
    cv2.warpAffine(
        small,
        opencv_map(to_small),
        (width, height),
        dst=target,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return True
