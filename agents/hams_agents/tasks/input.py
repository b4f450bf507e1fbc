"""From images to the network's input tensor. On the hot path: one pass to resize, one to convert.

Measured on one core for 640×480 (µs): `cv2.dnn.blobFromImages` 3100, numpy on the interleaved image 250, `cv2.split`
and a copy per plane 130. For batches of small crops one transposed copy of the whole batch is faster than planes.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine
from hams_agents.tasks.geometry import IDENTITY, Pixels, inside, scaling, shrink
from hams_shared.errors import BadInputError
from hams_shared.group.spec import InputSpec

SMALL = 128 * 128
"""Up to so many pixels an image is converted with its whole batch."""


def prepare(images: Sequence[Pixels], spec: InputSpec) -> tuple[NDArray[np.generic], list[Affine]]:
    """Return the input tensor for N images (each H×W×3, uint8, B, G, R) and, for each, input pixels → image pixels.

    The tensor is ``spec.shape(N)``, float32 or uint8, with ``(pixel - mean) / scale`` per channel. An image of the
    right size is not resized. Letterbox puts the image in the top left corner and fills the rest with `spec.pad` before
    the mean is subtracted.

    Raises:
        BadInputError: an image is empty, or not H×W×3 bytes.
    """
    batch = np.empty(spec.shape(len(images)), np.float32 if spec.dtype == "f32" else np.uint8)
    maps: list[Affine] = []
    fitted: list[Pixels] = []
    for image in images:
        pixels, to_image = _fit(image, spec)
        fitted.append(pixels)
        maps.append(to_image)
    if fitted:
        _convert(fitted, spec, batch)
    return batch, maps


def _fit(image: Pixels, spec: InputSpec) -> tuple[Pixels, Affine]:
    """Bring one image to the input's size."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise BadInputError(f"an image is H×W×3 bytes, not {'×'.join(map(str, image.shape))} {image.dtype}")
    height, width = image.shape[:2]
    if (width, height) == spec.size:
        return image, IDENTITY
    to_width, to_height = spec.size
    if spec.fit == "letterbox":
        to_width, to_height = inside(width, height, spec.size)
    to_image = scaling(width / to_width, height / to_height)
    image = shrink(image, width / to_width, height / to_height)
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
