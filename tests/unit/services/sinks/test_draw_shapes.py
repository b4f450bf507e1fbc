"""Masks, turned boxes and skeletons on pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_services.sinks.draw import annotate
from hams_shared.wire.masks import encode

BODY = [[320 + 10 * (i % 3), 100 + 18 * i] for i in range(17)]


def picture(side: int = 480) -> np.ndarray:
    return np.full((side, side + 160, 3), 128, np.uint8)


def drawn(*objects: dict[str, Any], side: int = 480) -> np.ndarray:
    return (annotate(picture(side), objects) != 128).any(axis=2)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_mask_tints_its_pixels_and_no_others(factor: int) -> None:
    bits = np.zeros((100, 200), bool)
    bits[20:40, 50:150] = True
    side = 480 // factor
    one = {"box": [100, 100, 300, 200], "score": 0.9, "label": "x", "mask": encode(bits, (100, 100))}
    seen = drawn(one, side=side)
    assert seen[130 * factor, 160 * factor : 240 * factor].all()
    assert not seen[150 * factor, 160 * factor : 240 * factor].any()
    outside = {**one, "mask": encode(bits, (-60, side - 30))}
    assert drawn(outside, side=side)[(side - 5) * factor, 0]


@pytest.mark.parametrize("mask", [7, {}, {"size": [3, 3], "counts": "zz", "offset": [0, 0]}, {"counts": None}, []])
def test_what_is_no_mask_is_left_out(mask: Any) -> None:
    one = {"box": [100, 100, 300, 200], "score": 0.9, "label": "x"}
    assert (drawn({**one, "mask": mask}) == drawn(one)).all()


def test_a_turned_box_is_drawn_in_place_of_the_upright_one() -> None:
    one = {"box": [100, 100, 300, 300], "label": "x", "points": [[200, 100], [300, 200], [200, 300], [100, 200]]}
    for shape in (one, {**one, "angle": 45.0}):
        seen = drawn(shape)
        assert seen[150, 250]
        assert not seen[290, 290]
    assert drawn({**one, "points": one["points"][::-1]})[299, 290]  # these are no corners, clockwise


def test_a_skeleton_joins_what_can_be_seen() -> None:
    one = {"box": [250, 90, 400, 420], "label": "person", "points": BODY}
    sure = [0.9] * 17
    limb = (np.array(BODY[13]) + BODY[15]) // 2  # left knee to left ankle
    assert drawn({**one, "visibility": sure})[limb[1], limb[0]]
    assert not drawn({**one, "visibility": [*sure[:15], 0.1, 0.9]})[limb[1], limb[0]]
    assert not drawn({**one, "visibility": sure, "skeleton": [[0, 1]]})[limb[1], limb[0]]
    nested = {"box": [250, 90, 400, 420], "label": "person", "pose": {"points": BODY, "visibility": sure}}
    assert drawn(nested)[limb[1], limb[0]]
    for rubbish in ([[0, 99]], [[0]], ["a"], 7, [[True, 0]]):
        annotate(picture(), [{**one, "skeleton": rubbish, "visibility": sure}])
