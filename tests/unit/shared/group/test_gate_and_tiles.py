"""What a stream may say of its motion gate, mask, roi and tiles."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hams_shared.group.stream_spec import StreamSpec


def stream(**keys: Any) -> StreamSpec:
    return StreamSpec.model_validate({"source": "camera:0", **keys})


def test_all_of_it() -> None:
    triangle = [[0, 0], [0.5, 0], [0.5, 0.5]]
    told = stream(
        gate={"type": "motion", "mask": [triangle]},
        mask=[triangle],
        roi=[0, 0.25, 1, 1],
        tiles={"grid": [3, 2], "overlap": 0.15},
    )
    assert told.gate is not None
    assert (told.gate.threshold, told.gate.area, told.gate.hold_s, told.gate.min_fps) == (12, 0.0005, 2.0, 0.2)
    assert told.tiles is not None
    assert (told.tiles.grid, told.tiles.overlap, told.tiles.whole) == ((3, 2), 0.15, False)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"tiles": {"grid": [9, 8]}}, "9 × 8 tiles are 72, at most 36 are allowed"),
        ({"tiles": {"grid": [0, 2]}}, "greater than or equal to 1"),
        ({"tiles": {"grid": [3, 2], "overlap": 1.5}}, "less than or equal to 0.8"),
        ({"gate": {"type": "sound"}}, "'motion'"),
        ({"gate": {"area": 0}}, "greater than 0"),
        ({"gate": {"mask": [[[0, 0], [1, 1], [0.5, 0.5]]]}}, "must enclose an area"),
        ({"mask": [[[0, 0], [1, 1]]]}, "at least 3 items"),
        ({"mask": [[[0, 0], [1, 0], [1, 1.2]]]}, "less than or equal to 1"),
        ({"roi": [0.5, 0, 0.5, 1]}, r"must be \[x0, y0, x1, y1\]"),
    ],
)
def test_mistakes_are_named(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        stream(**keys)
