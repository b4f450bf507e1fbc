"""Crops of the objects a detector found, as the child networks expect them.

Where a crop reaches beyond the image its border pixels are repeated: networks react less to smeared skin or
background than to a black edge, and it is what mediapipe does for its landmark networks. A box that is not finite,
has no area, or lies outside the image gives no crop; its object simply has no entry of the child in the result.

Maps from crop pixels to frame pixels are affine. A crop rectified by four corners is warped by their perspective, but
its map is the nearest affine one: exact in the middle, and off at a corner by half of what the quadrilateral differs
from a parallelogram.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected, Mask
from hams_agents.tasks.input import (
    HALVED,
    Pixels,
    apply,
    compose,
    downscale,
    inside,
    invert,
    nearest_affine,
    opencv_map,
    opencv_perspective,
    perspective,
)
from hams_agents.tasks.masks import blank
from hams_shared.errors import MessageError
from hams_shared.group.node_spec import CropSpec

MIN_EYES = 0.05
"""Eyes nearer to each other than this part of the box's width (a profile) do not give its tilt."""
MIN_CORNER = 0.01
"""Corners are unfit where two sides that meet span less than this part of the longest side's square."""
MOST_CORNER = 1e8
"""Corners beyond this are unfit, pixels: four times as large, as a crop may be, they still fit a message."""

MOST_SKIPPED = 32
"""Pixels of a crop, before it begins, among which one is looked for that begins at a whole pixel of the image."""
MOST_OFF = 1 / 32
"""Of an image pixel: as exact as OpenCV's warping."""
ROUNDING = 1e-6
"""Image pixels: a crop that was mapped there and back begins where it began, whatever the rounding."""


@dataclass(frozen=True)
class View:
    """The part of an image that a crop shows."""

    size: tuple[int, int]
    """Width and height of the part of the crop that is filled from the image, from the top left."""
    to_frame: Affine
    """Crop pixels → frame pixels."""
    corners: NDArray[np.float64] | None = None
    """4×2, frame pixels: of the filled part's corners, clockwise from top left; None: by `to_frame`."""
    mask: Mask | None = None
    """All that is shown; None: the whole rectangle."""


def cut(
    image: Pixels,
    to_frame: Affine | None,
    objects: Sequence[Detected],
    crop: CropSpec,
    size: tuple[int, int],
    pad: int | None = None,
) -> tuple[Pixels, NDArray[np.float64], list[int]]:
    """Cut one crop per wanted object out of `image` (H×W×3).

    `to_frame` maps image pixels to frame pixels (None: the same), `size` is the crops' (width, height). With `pad` an
    object keeps its proportions, and what it leaves of the crop on the right or below is filled with that value.
    Returns crops N×height×width×3, N×2×3 maps from crop pixels to frame pixels, and which of `objects` they show,
    ascending. With none wanted N is 0.
    """
    to_image = None if to_frame is None else invert(to_frame)
    views, kept = views_of(image.shape[:2], to_image, objects, crop, size, pad)
    return render(image, to_image, views, size, pad or 0), maps_of(views), kept


def views_of(
    shape: tuple[int, ...],
    to_image: Affine | None,
    objects: Sequence[Detected],
    crop: CropSpec,
    size: tuple[int, int],
    pad: int | None = None,
) -> tuple[list[View], list[int]]:
    """Return what :func:`cut` would take from an image of `shape` (H, W), without its pixels.

    `to_image` maps frame pixels to image pixels (None: the same). Returns a view for each crop, and which of `objects`
    they show.
    """
    views: list[View] = []
    kept: list[int] = []
    for index in _wanted(objects, crop):
        view = view_of(objects[index], crop, size, letterbox=pad is not None)
        if _bounds(shape, *_in_image(view, to_image), view.size) is not None:
            views.append(view)
            kept.append(index)
    return views, kept


def render(image: Pixels, to_image: Affine | None, views: Sequence[View], size: tuple[int, int], pad: int) -> Pixels:
    """Return what `views` show of `image` (H×W×3): N×height×width×3. Raises MessageError when one shows nothing.

    `pad` is the value of what a view does not fill, and of what its mask hides.
    """
    width, height = size
    crops = np.empty((len(views), height, width, 3), np.uint8)
    for view, target in zip(views, crops, strict=True):
        across, down = view.size
        if view.size != size:
            target[down:], target[:, across:] = pad, pad
        _sample(image, *_in_image(view, to_image), target[:down, :across])
        if view.mask is not None:
            blank(target[:down, :across], view.mask, view.to_frame, view.corners, pad)
    return crops


def maps_of(views: Sequence[View]) -> NDArray[np.float64]:
    """Return the views' N×2×3 maps from crop pixels to frame pixels."""
    return np.stack([view.to_frame for view in views]) if views else np.empty((0, 2, 3))


def _wanted(objects: Sequence[Detected], crop: CropSpec) -> list[int]:
    """Return which objects get a crop: right label, a box with an area, the best `max_count`; ascending."""
    found = [
        index
        for index, one in enumerate(objects)
        if (not crop.labels or one.label in crop.labels)
        and all(map(math.isfinite, one.box))
        and one.box[2] > one.box[0]
        and one.box[3] > one.box[1]
        and all(math.isfinite((one.box[i + 2] - one.box[i]) * crop.enlarge) for i in (0, 1))
    ]
    if len(found) > crop.max_count:
        found = sorted(found, key=lambda index: -objects[index].score)[: crop.max_count]
    return sorted(found)


def view_of(one: Detected, crop: CropSpec, size: tuple[int, int], letterbox: bool = False) -> View:
    """Return what the crop of one object shows."""
    corners = _corners(one) if crop.align == "corners" else None
    view = _upright(one, crop, size, letterbox) if corners is None else _rectified(corners, crop, size, letterbox)
    view = _mirrored(view) if one.label in crop.mirror else view
    return replace(view, mask=one.mask) if crop.mask else view


def _upright(one: Detected, crop: CropSpec, size: tuple[int, int], letterbox: bool) -> View:
    """Show the box. Enlarging and levelling the eyes happen about its centre."""
    x0, y0, x1, y1 = one.box
    across, down = (x1 - x0) * crop.enlarge, (y1 - y0) * crop.enlarge
    filled = inside(across, down, size) if letterbox and not crop.square else size
    scale_x, scale_y = across / filled[0], down / filled[1]
    if crop.square:
        scale_x = scale_y = max(scale_x, scale_y)
    angle = _tilt(one) if crop.align == "eyes" else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return View(filled, np.column_stack((linear, centre - linear @ (filled[0] / 2, filled[1] / 2))))


def _rectified(corners: NDArray[np.float64], crop: CropSpec, size: tuple[int, int], letterbox: bool) -> View:
    """Show the quadrilateral as a rectangle; its proportions are those of the longer sides, as PaddleOCR takes them."""
    centre = corners.mean(axis=0)
    corners = centre + (corners - centre) * crop.enlarge
    top, right, bottom, left = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    filled = inside(max(top, bottom), max(right, left), size) if letterbox else size
    return View(filled, nearest_affine(corners, filled), corners)


def _mirrored(view: View) -> View:
    """Show the same from right to left."""
    flip = np.array([[-1.0, 0.0, view.size[0]], [0.0, 1.0, 0.0]])
    corners = None if view.corners is None else view.corners[[1, 0, 3, 2]]
    return replace(view, to_frame=compose(view.to_frame, flip), corners=corners)


def _tilt(one: Detected) -> float:
    """Return the angle, radians, by which the line through the first two points is turned; 0 when they are unfit."""
    if one.points is None or len(one.points) < 2:
        return 0.0
    dx, dy = (float(v) for v in one.points[1] - one.points[0])
    distance = math.hypot(dx, dy)
    if not math.isfinite(distance) or distance < MIN_EYES * (one.box[2] - one.box[0]):
        return 0.0
    return math.atan2(dy, dx)


def _corners(one: Detected) -> NDArray[np.float64] | None:
    """Return the first four points, 4×2; None when they are not clockwise corners of a convex quadrilateral."""
    if one.points is None or len(one.points) < 4 or not (np.abs(one.points[:4]) < MOST_CORNER).all():  # nor NaN
        return None
    corners = np.asarray(one.points[:4], np.float64)
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    spans = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    return corners if spans.min() > MIN_CORNER * np.square(sides).sum(axis=1).max() else None


def _in_image(view: View, to_image: Affine | None) -> tuple[Affine, NDArray[np.float64] | None]:
    """Return the map from the view's pixels to the image's, and its corners in the image."""
    if to_image is None:
        return view.to_frame, view.corners
    corners = None if view.corners is None else apply(to_image, view.corners)
    return compose(to_image, view.to_frame), corners


def _bounds(
    shape: tuple[int, ...], to_image: Affine, quad: NDArray[np.float64] | None, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return how many image pixels a crop pixel spans (x, y), and the least and greatest x, y that the crop shows.

    `size` is the crop's (width, height). None when it lies wholly outside the image of `shape`, or shows nothing.
    """
    (width, height), (rows, columns) = size, shape[:2]
    factors = np.hypot(to_image[0, :2], to_image[1, :2])
    if not (np.isfinite(to_image).all() and factors.min() > 0 and rows and columns):
        return None
    corners = quad
    if corners is None:
        corners = apply(to_image, np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    if low[0] >= columns or low[1] >= rows or high[0] <= 0 or high[1] <= 0:
        return None
    return factors, low, high


def _sample(image: Pixels, to_image: Affine, quad: NDArray[np.float64] | None, target: Pixels) -> None:
    """Fill `target` (h×w×3) from `image` by `to_image`, or, with `quad` (4×2 corners in it), by their perspective.

    Only the part of the image under the crop is touched, and it is halved as often as bilinear sampling needs.
    """
    height, width = target.shape[:2]
    rows, columns = image.shape[:2]
    bounds = _bounds(image.shape, to_image, quad, (width, height))
    if bounds is None:
        raise MessageError("a crop shows nothing of the frame")
    upright = quad is None and to_image[0, 1] == 0 == to_image[1, 0]
    if upright and _resize(image, to_image, target):
        return
    factors, low, high = bounds
    margin = 2 * float(factors.max()) + 2
    x0, y0 = (int(v) for v in np.clip(np.floor(low - margin + ROUNDING), 0, (columns - 1, rows - 1)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(high + margin - ROUNDING), (x0 + 1, y0 + 1), (columns, rows)))
    part = image[y0:y1, x0:x1]
    factor_x, factor_y = factors if upright else (factors.min(), factors.min())
    small = downscale(part, float(factor_x), float(factor_y))
    ratio = np.array([small.shape[1] / part.shape[1], small.shape[0] / part.shape[0]])
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    if quad is None:
        to_small = to_image.copy()
        to_small[:, 2] -= (x0, y0)
        to_small *= ratio[:, None]
        cv2.warpAffine(small, opencv_map(to_small), (width, height), dst=target, **how)
    else:
        to_quad = perspective((quad - (x0, y0)) * ratio, (width, height))
        cv2.warpPerspective(small, opencv_perspective(to_quad), (width, height), dst=target, **how)


def _resize(image: Pixels, to_image: Affine, target: Pixels) -> bool:
    """Fill `target` as warping would, up to rounding, in a half to a fifth of the time; False: not this crop.

    OpenCV resizes whole pixels only. So a larger part of the image is resized, which begins at a whole pixel and some
    pixels of the crop before the crop does; those are left out.
    """
    height, width = target.shape[:2]
    rows, columns = image.shape[:2]
    across = _whole(to_image[0, 0], to_image[0, 2], width)
    down = _whole(to_image[1, 1], to_image[1, 2], height)
    if across is None or down is None:
        return False
    part = image[max(down.start, 0) : down.stop, max(across.start, 0) : across.stop]
    above, below, left, right = (
        max(one, 0) for one in (-down.start, down.stop - rows, -across.start, across.stop - columns)
    )
    if above or below or left or right:
        part = cv2.copyMakeBorder(part, above, below, left, right, cv2.BORDER_REPLICATE)
    larger = cv2.resize(part, None, fx=1 / to_image[0, 0], fy=1 / to_image[1, 1], interpolation=cv2.INTER_LINEAR)
    target[:] = larger[down.skip : down.skip + height, across.skip : across.skip + width]
    return True


@dataclass(frozen=True)
class _Whole:
    """Whole pixels of the image, and how many of the crop's they show before it begins."""

    start: int
    stop: int
    skip: int


def _whole(scale: float, start: float, count: int) -> _Whole | None:
    """The pixels of a side, some perhaps beyond its ends, that show `count` pixels of a crop from `start` on.

    Each is `scale` of them. None: bilinear sampling is too coarse for it, or it is mirrored.
    """
    if not 1 / MOST_SKIPPED < scale < HALVED:
        return None
    least = math.ceil(1 / scale)  # the image's pixel before the crop counts for its first
    skips = np.arange(least, least + MOST_SKIPPED)
    begins = start - scale * skips
    off = np.abs(begins - np.round(begins))
    best = int(off.argmin())
    begin, skip = round(float(begins[best])), int(skips[best])
    stop = begin + math.ceil(scale * (skip + count) + 2)
    return _Whole(begin, stop, skip) if off[best] <= MOST_OFF else None
