"""Maps over an image, such as classes or depths of its pixels: the part that shows the image, and a PNG of it.

A network's map covers its whole input, also what letterbox pads; its resolution may be another than the input's. On the
wire a map is ``{"size": [height, width], "png": bytes, "to_frame": 2×3}``: the last maps pixels of the PNG to pixels of
the frame, so that a reader needs to know nothing of input, letterbox and crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, TensorInfo
from hams_agents.tasks.input import compose, invert, opencv_map, scaling
from hams_shared.errors import TaskError
from hams_shared.wire.maps import MAX_SIDE

Resolution = Literal["network", "frame"]
LEAST_SIDE = 8
"""Outputs with a shorter side are no maps, but numbers about the image."""
MOST_UNLIKE = 0.1
"""Difference of the factors by which a map is smaller than the input, in height and in width."""


@dataclass(frozen=True)
class Placed:
    """A map of what one image shows."""

    values: NDArray[Any]
    """H×W."""
    to_frame: Affine
    """Pixels of `values` → frame pixels."""
    size: tuple[int, int]
    """Width and height, in frame pixels, of what it shows."""
    from_size: Affine
    """Pixels of a map of `size` → frame pixels."""


def placed(values: NDArray[Any], size: tuple[int, int], filled: tuple[int, int], to_frame: Affine) -> Placed:
    """Cut what is padding out of a map (H×W) over an input of `size`, of which `filled` (width, height) is the image.

    `to_frame` maps input pixels to frame pixels.
    """
    rows, columns = values.shape
    down = max(1, min(rows, round(rows * filled[1] / size[1])))
    across = max(1, min(columns, round(columns * filled[0] / size[0])))
    width, height = (_side(float(np.hypot(*to_frame[:, axis])) * filled[axis]) for axis in (0, 1))
    return Placed(
        values[:down, :across],
        compose(to_frame, scaling(size[0] / columns, size[1] / rows)),
        (width, height),
        compose(to_frame, scaling(filled[0] / width, filled[1] / height)),
    )


def _side(length: float) -> int:
    return min(MAX_SIDE, max(1, round(length)))


def at_resolution(one: Placed, resolution: Resolution, interpolation: int) -> Placed:
    """Return the map at the network's resolution, as it is, or resized to that of the frame."""
    if resolution == "network":
        return one
    source = opencv_map(compose(invert(one.to_frame), one.from_size))
    how = {"flags": interpolation | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    values = cv2.warpAffine(np.ascontiguousarray(one.values), source, one.size, **how)
    return replace(one, values=values, to_frame=one.from_size)


def png(one: Placed, **more: Any) -> dict[str, Any]:
    """Return a map of uint8 or uint16 as it goes on the wire, with `more` that a reader must know."""
    pixels = np.ascontiguousarray(one.values)
    # Runs of equal bytes compress as well as deflate's search finds them, in half of the time; depths have no runs.
    fast = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE] if pixels.dtype == np.uint8 else []
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1, *fast])
    if not done:  # OpenCV without PNG
        raise TaskError("a map could not be written as PNG", "reinstall opencv-python-headless")
    return {
        "size": list(pixels.shape),
        "png": data.tobytes(),
        "to_frame": one.to_frame.round(6).tolist(),
        **more,
    }


def single(values: NDArray[np.generic], count: int, task: str) -> NDArray[Any]:
    """Return an output N×H×W, N×1×H×W or N×H×W×1 as N×H×W for N = `count` images. Raises TaskError."""
    if values.ndim == 4 and 1 in (values.shape[1], values.shape[3]):
        values = values[:, 0] if values.shape[1] == 1 else values[..., 0]
    if values.ndim != 3 or values.shape[0] != count or 0 in values.shape:
        raise TaskError(
            f"task {task}: the output is {'×'.join(map(str, values.shape))}, expected {count}×H×W or {count}×1×H×W",
            "name another output with `output`",
        )
    return values


def finite(values: NDArray[np.floating], task: str) -> None:
    """Raise TaskError unless all numbers are finite."""
    if not math.isfinite(float(values.min())) or not math.isfinite(float(values.max())):
        raise TaskError(
            f"task {task}: the network gave values that are not finite",
            "check the input's mean and scale, or use a device that computes in fp32",
        )


def channels(info: TensorInfo, input: TensorInfo) -> int | None:
    """Return how many maps over `input` a tensor N×H×W, N×C×H×W or N×H×W×C holds; None: unknown, 0: it holds none."""
    if len(info.shape) not in (3, 4) or len(input.shape) != 4:
        return 0
    takes = input.shape[1:3] if input.shape[3] in (1, 3) else input.shape[2:]
    if len(info.shape) == 3:
        return int(_alike(info.shape[1:], takes))
    if _alike(info.shape[2:], takes):
        return info.shape[1]
    return info.shape[3] if _alike(info.shape[1:3], takes) else 0


def _alike(gives: Sequence[int | None], takes: Sequence[int | None]) -> bool:
    """Return whether height and width are long enough and, where they are known, reduced alike."""
    if any(side is not None and side < LEAST_SIDE for side in gives):
        return False
    factors = [g / t for g, t in zip(gives, takes, strict=True) if g is not None and t is not None]
    return len(factors) < 2 or abs(factors[0] / factors[1] - 1) < MOST_UNLIKE
