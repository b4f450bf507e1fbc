"""Affine maps between pixel grids, and from images to the network's input tensor.

Everywhere in HAMS a pixel's centre is at integer + 0.5, so that scaling an image by s scales its coordinates by s.
OpenCV's warps count centres at integers; :func:`opencv_map` converts.

The input tensor takes one pass to resize and one to convert.

Measured on one core for 640×480 (µs): `cv2.dnn.blobFromImages` 3100, numpy on the interleaved image 250, `cv2.split`
and a copy per plane 130. For batches of small crops one transposed copy of the whole batch is faster than planes.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine
from hams_shared.errors import BadInputError
from hams_shared.group.node_spec import InputSpec

Pixels = NDArray[np.uint8]
Homography = NDArray[np.float64]
"""3×3 matrix that maps (x, y, 1) of one pixel grid to w (x, y, 1) of another."""

IDENTITY: Affine = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
IDENTITY.setflags(write=False)
HALVED = 2.0
"""Where a pixel of the result spans so many of the image's, the image is halved first."""
SMALL = 128 * 128
"""Up to so many pixels an image is converted with its whole batch."""


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


def opencv_perspective(to: Homography) -> Homography:
    """Return the same map for coordinates that count pixel centres at integers."""
    centre = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    back = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
    result: Homography = back @ to @ centre
    return result


def boxes_through(affine: Affine, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map K×4 boxes (x0, y0, x1, y1) to the upright boxes around their images."""
    corners = apply(affine, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def inside(width: float, height: float, size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (width, height) within `size` that has the proportions `width` : `height`; 1 at least."""
    factor = min(size[0] / width, size[1] / height)
    return min(size[0], max(1, round(width * factor))), min(size[1], max(1, round(height * factor)))


def filled(spec: InputSpec, size: tuple[int, int], part: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return width and height of the part of the input, from the top left, that an image of `size` fills.

    `part`: what of an image that is a crop shows something, pixels.
    """
    if part is not None:
        return part
    return inside(*size, spec.size) if spec.fit == "letterbox" else spec.size


def perspective(corners: NDArray[np.float64], size: tuple[int, int]) -> Homography:
    """Return the map of a rectangle (0, 0) – `size` onto the quadrilateral `corners` (4×2, clockwise from top left)."""
    width, height = size
    upright = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(upright, corners.astype(np.float32)), np.float64)


def nearest_affine(corners: NDArray[np.float64], size: tuple[int, int]) -> Affine:
    """Return the affine map whose error at the rectangle's corners is least, in the mean of squares.

    It is exact when `corners` are those of a parallelogram.
    """
    width, height = size
    top_left, top_right, bottom_right, bottom_left = corners
    along = (top_right + bottom_right - top_left - bottom_left) / (2 * width)
    down = (bottom_left + bottom_right - top_left - top_right) / (2 * height)
    return np.column_stack((along, down, corners.mean(axis=0) - along * width / 2 - down * height / 2))


def downscale(image: Pixels, x: float, y: float) -> Pixels:
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


def prepare(
    images: Sequence[Pixels], spec: InputSpec, shown: Sequence[tuple[int, int]] | None = None
) -> tuple[NDArray[np.generic], list[Affine]]:
    """Return the input tensor for N images (each H×W×3, uint8, B, G, R) and, for each, input pixels → image pixels.

    The tensor is ``spec.shape(N)``, float32 or uint8, with ``(pixel - mean) / scale`` per channel. An image of the
    right size is not resized. Letterbox puts the image in the top left corner and fills the rest with `spec.pad` before
    the mean is subtracted. `shown` is the width and height of what each image shows, whose proportions letterbox keeps
    (None: those of the image, whose pixels are square).

    Raises:
        BadInputError: an image is empty, or not H×W×3 bytes.
    """
    batch = np.empty(spec.shape(len(images)), np.float32 if spec.dtype == "f32" else np.uint8)
    maps: list[Affine] = []
    fitted: list[Pixels] = []
    sizes: Sequence[tuple[int, int] | None] = [None] * len(images) if shown is None else shown
    for image, size in zip(images, sizes, strict=True):
        pixels, to_image = _fit(image, spec, size)
        fitted.append(pixels)
        maps.append(to_image)
    if fitted:
        _convert(fitted, spec, batch)
    return batch, maps


def _fit(image: Pixels, spec: InputSpec, shown: tuple[int, int] | None) -> tuple[Pixels, Affine]:
    """Bring one image to the input's size; it shows something of `shown` (width, height)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise BadInputError(f"an image is H×W×3 bytes, not {'×'.join(map(str, image.shape))} {image.dtype}")
    height, width = image.shape[:2]
    to_width, to_height = spec.size
    if spec.fit == "letterbox":
        across, down = shown or (width, height)
        to_width, to_height = inside(across, down, spec.size)
    if (width, height) == (to_width, to_height) == spec.size:
        return image, IDENTITY
    to_image = scaling(width / to_width, height / to_height)
    image = downscale(image, width / to_width, height / to_height)
    if (to_width, to_height) == spec.size:
        return cv2.resize(image, spec.size, interpolation=cv2.INTER_LINEAR), to_image
    canvas = np.full((spec.size[1], spec.size[0], 3), spec.pad, np.uint8)
    cv2.resize(image, (to_width, to_height), dst=canvas[:to_height, :to_width], interpolation=cv2.INTER_LINEAR)
    return canvas, to_image


def _convert(images: list[Pixels], spec: InputSpec, batch: NDArray[np.generic]) -> None:
    """Fill `batch` from images of the right size: colour order, layout, element type, mean and scale."""
    gain, offset = _normalisation(spec)
    if spec.color == "gray":
        planes = batch.reshape(len(images), spec.size[1], spec.size[0])
        for plane, image in zip(planes, images, strict=True):
            _store(plane, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), gain, offset, 0)
    elif spec.layout == "nhwc":
        for target, image in zip(batch, images, strict=True):
            pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if spec.color == "rgb" else image
            _store(target, pixels, gain, offset, None)
    elif len(images) > 1 and spec.size[0] * spec.size[1] <= SMALL:
        stack = np.stack(images).transpose(0, 3, 1, 2)
        np.copyto(batch, stack[:, ::-1] if spec.color == "rgb" else stack)
        _in_place(batch, gain, offset)
    else:
        order = (2, 1, 0) if spec.color == "rgb" else (0, 1, 2)
        for target, image in zip(batch, images, strict=True):
            split = cv2.split(image)
            for channel, source in enumerate(order):
                _store(target[channel], split[source], gain, offset, channel)


def _normalisation(spec: InputSpec) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return gain and offset per channel, so that the tensor is ``pixel * gain + offset``; None where not needed."""
    mean = np.broadcast_to(np.array(spec.mean or (0.0,)), spec.channels)
    scale = np.broadcast_to(np.array(spec.scale or (1.0,)), spec.channels)
    gain = None if (scale == 1).all() else (1 / scale).astype(np.float32)
    offset = None if (mean == 0).all() else (-mean / scale).astype(np.float32)
    return gain, offset


def _store(
    target: NDArray[np.generic],
    pixels: Pixels,
    gain: NDArray[np.float32] | None,
    offset: NDArray[np.float32] | None,
    channel: int | None,
) -> None:
    """Write `pixels` into `target`, normalised with the values of `channel`; None: of the last axis."""
    pick = slice(None) if channel is None else channel
    if gain is None:
        np.copyto(target, pixels, casting="same_kind" if target.dtype == pixels.dtype else "unsafe")
    else:
        np.multiply(pixels, _scalar(gain[pick]), out=target)
    if offset is not None:
        np.add(target, _scalar(offset[pick]), out=target)


def _scalar(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return equal values as one: arithmetic with a scalar is several times faster than along a short axis."""
    return values if values.ndim == 0 or (values != values[0]).any() else values[0]


def _in_place(batch: NDArray[np.generic], gain: NDArray[np.float32] | None, offset: NDArray[np.float32] | None) -> None:
    """Normalise an N×C×H×W batch."""
    if gain is not None:
        np.multiply(batch, gain[:, None, None], out=batch)
    if offset is not None:
        np.add(batch, offset[:, None, None], out=batch)
