"""Depth from one image: how far each pixel is.

MiDaS (Ranftl, Lasinger, Hafner, Schindler, Koltun, *Towards Robust Monocular Depth Estimation*, TPAMI 2022) and Depth
Anything give inverse depth up to an unknown scale and offset: larger is nearer, and values of two images cannot be
compared. Their metric kin (ZoeDepth, Depth Anything metric, UniDepth) give metres. Outputs are N×H×W or N×1×H×W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, Reads, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import only, pick
from hams_agents.tasks.maps import Resolution, at_resolution, channels, finite, placed, png, single

STEPS = (1 << 16) - 1
"""Of a PNG of 16 bits, between the least and the greatest value."""
NAME = "depth"


class DepthParams(TaskParams):
    """Parameters of ``type: depth``."""

    kind: Literal["inverse", "metric"] = Field(
        "inverse", description="inverse: larger is nearer, without a unit; metric: larger is farther"
    )
    scale: float = 1.0
    offset: float = Field(0.0, description="a value is output * scale + offset")
    unit: str | None = Field(None, description="stands with the values, e.g. m")
    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.05, 0.25, 0.75, 0.95), max_length=101, description="parts of the image below these values"
    )
    png: bool = Field(False, description="the result has the value of each pixel, as a PNG of 16 bits")
    resolution: Resolution = Field("network", description="of the PNG: the output's, or that of the frame")
    output: str | None = Field(None, description="name of the output; not needed when there is one only")


class Depth:
    """Describes an image as ``{"kind", "value", "min", "max", "mean", "quantiles": {"0.05": x, …}}``.

    ``value`` is the median, of a child that of what its crop shows.
    With `png` there is ``map``: a grey PNG of 16 bits, of which a pixel's value is ``pixel * scale + offset``, and its
    ``scale`` and ``offset``. See :mod:`hams_agents.tasks.maps`.
    """

    Params: ClassVar[type[TaskParams]] = DepthParams
    IN_FULL: ClassVar[Mapping[str, Any]] = {"png": True, "resolution": "network"}
    layout: ClassVar[str] = "one number for each pixel, such as its depth"
    maps = True

    def __init__(self, params: DepthParams, context: TaskContext) -> None:
        self._params = params
        self._size = context.input.size
        self._at = (0.0, 0.5, *params.quantiles, 1.0)

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`: one number for each pixel, and no integers."""
        likely = [info for info in outputs if info.dtype.startswith("float") and channels(info, input) == 1]
        if not likely:
            return None
        return layouts.named(likely[0], outputs)

    def reads(self, outputs: Outputs) -> Reads:
        """Return the one output that is used."""
        return only(outputs, self._params.output, NAME)

    def describe(
        self, outputs: Outputs, to_frame: Sequence[Affine], filled: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        images = single(pick(outputs, self._params.output, NAME), len(to_frame), NAME)
        return [self._image(one, affine, part) for one, affine, part in zip(images, to_frame, filled, strict=True)]

    def _image(self, raw: NDArray[Any], affine: Affine, filled: tuple[int, int]) -> dict[str, Any]:
        params = self._params
        one = placed(raw, self._size, filled, affine)
        values = one.values.astype(np.float32)
        finite(values, NAME)
        values = values * np.float32(params.scale) + np.float32(params.offset)
        least, median, *inner, most = (_short(value) for value in np.quantile(values, self._at).tolist())
        item: dict[str, Any] = {
            "kind": params.kind,
            "value": median,
            "min": least,
            "max": most,
            "mean": _short(float(values.mean(dtype=np.float64))),
            "quantiles": {f"{at:g}": value for at, value in zip(params.quantiles, inner, strict=True)},
        }
        if params.unit:
            item["unit"] = params.unit
        if params.png:
            shown = at_resolution(replace(one, values=values), params.resolution, cv2.INTER_LINEAR)
            low, high = float(values.min()), float(values.max())
            step = (high - low) / STEPS or 1.0
            levels = ((shown.values - low) / step).round().clip(0, STEPS).astype(np.uint16)
            item["map"] = png(replace(shown, values=levels), kind=params.kind, scale=step, offset=low)
        return item


def _short(value: float) -> float:
    """Return a number with six digits that count."""
    return float(f"{value:.6g}")
