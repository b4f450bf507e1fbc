"""What a group file says of the places in a stream's picture: polygons, zones, lines, tiles, and the motion gate.

Coordinates are relative: (0, 0) is the picture's top left, (1, 1) its bottom right.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hams_shared.group.findings import Strict
from hams_shared.group.node_spec import Name

Coordinate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
"""x, y."""


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, (*points[1:], *points[:1]), strict=True)) / 2
    if abs(area) < 1e-6:
        raise ValueError("must enclose an area: its corners lie on one line, or are the same")
    return points


Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=256), AfterValidator(_polygon)]
"""Corners in order, around."""


def _line(ends: tuple[Point, Point]) -> tuple[Point, Point]:
    if ends[0] == ends[1]:
        raise ValueError("must have two different ends")
    return ends


Line = Annotated[tuple[Point, Point], AfterValidator(_line)]
"""Its two ends: seen from the first to the second, what crosses from left to right goes `in`, else `out`."""


def _rectangle(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError("must be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    return box


Rectangle = Annotated[tuple[Coordinate, Coordinate, Coordinate, Coordinate], AfterValidator(_rectangle)]


class TilesSpec(Strict):
    """The detector is given parts of the picture, for objects that are small in the whole."""

    grid: tuple[Annotated[int, Field(ge=1, le=16)], Annotated[int, Field(ge=1, le=16)]] = Field(
        description="tiles across and down"
    )
    overlap: float = Field(0.15, ge=0, lt=0.9, description="part of a tile that it shares with the next")
    whole: bool = Field(False, description="the whole picture is looked at, too, for objects larger than a tile")


class GateSpec(Strict):
    """Frames without motion are not computed: they end as gated."""

    type: Literal["motion"] = "motion"
    threshold: int = Field(12, ge=1, le=255, description="least change of a pixel's luma, grey levels")
    area: float = Field(0.002, gt=0, le=1, description="least part of the picture, outside masks, that must change")
    hold_s: float = Field(2.0, ge=0, le=3600, description="frames are computed so long after the last motion")
    min_fps: float = Field(0.2, ge=0, le=1000, description="frames a second that are computed without motion, at least")
    mask: tuple[Polygon, ...] = Field((), description="where motion does not count: trees, clocks")


class Regions(Strict):
    """The places in a stream's picture."""

    gate: GateSpec | None = Field(None, description="compute only while something moves")
    mask: tuple[Polygon, ...] = Field(
        (), description="where nothing is looked for: objects standing there are left out"
    )
    roi: Rectangle | None = Field(None, description="the part that the detector is given: x0, y0, x1, y1")
    tiles: TilesSpec | None = None
    zones: dict[Name, Polygon] = Field({}, description="areas by name; objects say in which their foot point is")
    lines: dict[Name, Line] = Field({}, description="lines by name; a track that crosses one is counted")

    @model_validator(mode="after")
    def _names(self) -> Regions:
        if both := sorted(self.zones.keys() & self.lines.keys()):
            raise ValueError(f"a zone and a line are both called {both[0]!r}")
        return self
