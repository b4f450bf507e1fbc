"""How alike objects are by masks, turned boxes and key points; and what that makes of an agreement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hams_services.agreement.compare import compare
from hams_services.agreement.likeness import ByMask, by_corners, by_points, keypoint_similarity
from hams_shared.wire.masks import encode


def masked(x: int, y: int, bits: np.ndarray, **more: Any) -> dict[str, Any]:
    height, width = bits.shape
    box = [x, y, x + width, y + height]
    return {"box": box, "score": 0.9, "label": "a", "mask": encode(bits, (x, y)), **more}


FULL, LEFT = np.ones((10, 10), bool), np.arange(10)[None].repeat(10, 0) < 5


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        (masked(0, 0, FULL), masked(0, 0, FULL), 1.0),
        (masked(0, 0, FULL), masked(0, 0, LEFT), 0.5),
        (masked(0, 0, FULL), masked(5, 0, FULL), 50 / 150),
        (masked(0, 0, LEFT), masked(5, 0, LEFT), 0.0),
        (masked(0, 0, FULL), masked(20, 0, FULL), 0.0),
        (masked(0, 0, FULL), {"box": [0, 0, 10, 10], "label": "a", "score": 1.0}, 0.0),
        (masked(0, 0, ~FULL), masked(0, 0, ~FULL), 0.0),
    ],
)
def test_masks(one: dict[str, Any], other: dict[str, Any], share: float) -> None:
    assert ByMask()([one], [other])[0, 0] == pytest.approx(share)
    assert ByMask()([other], [one])[0, 0] == pytest.approx(share)


def turned(x: float, y: float, w: float, h: float, degrees: float) -> dict[str, Any]:
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    points = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn.T + (x, y)
    box = [*points.min(axis=0), *points.max(axis=0)]
    return {"box": box, "score": 0.9, "label": "a", "points": points.tolist(), "angle": degrees}


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        (turned(50, 50, 40, 10, 30), turned(50, 50, 40, 10, 30), 1.0),
        (turned(50, 50, 40, 10, 30), turned(50, 50, 40, 10, -150), 1.0),  # corners in another order, the same box
        (turned(50, 50, 40, 10, 0), turned(60, 50, 40, 10, 0), 300 / 500),
        (turned(50, 50, 40, 10, 0), turned(50, 50, 40, 10, 90), 100 / 700),
        (turned(50, 50, 40, 10, 45), turned(70, 30, 40, 10, 45), 0.0),
    ],
)
def test_turned_boxes(one: dict[str, Any], other: dict[str, Any], share: float) -> None:
    assert by_corners([one], [other])[0, 0] == pytest.approx(share, abs=1e-5)


def test_key_points_are_compared_as_coco_does() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (17, 2))
    one = {"box": [0, 0, 100, 50], "points": points.tolist(), "visibility": [0.9] * 16 + [0.1]}
    moved = points + np.array([3, 4])
    moved[16] += 500  # cannot be seen
    other = {"box": [0, 0, 100, 50], "points": moved.tolist()}
    sigmas = (0.026, *[0.025] * 2, *[0.035] * 2, *[0.079] * 2, *[0.072] * 2, *[0.062] * 2)
    sigmas += (*[0.107] * 2, *[0.087] * 2, 0.089)
    wanted = np.mean([math.exp(-25 / (2 * 5000 * (2 * s) ** 2)) for s in sigmas])
    assert by_points([one], [other])[0, 0] == pytest.approx(wanted)
    assert keypoint_similarity(one, {"points": points[:4].tolist()}, 1.0) == 0.0
    assert by_points([{**one, "visibility": [0.0] * 17}], [other])[0, 0] == 1.0  # none is seen: by the box


def test_the_least_alike_part_decides() -> None:
    found = compare([[masked(0, 0, FULL)]], [[masked(0, 0, LEFT)]])
    assert found.metrics["ap50_75"] == 1.0
    assert found.metrics["mask ap50_75"] == pytest.approx(1 / 6, abs=1e-5)
    assert found.agreement == pytest.approx(1 / 6)
    same = compare([[turned(50, 50, 40, 10, 45)]], [[turned(50, 50, 40, 10, -135)]])
    assert same.agreement == 1.0
    crossed = compare([[turned(50, 50, 40, 10, 45)]], [[turned(50, 50, 40, 10, -45)]])
    assert crossed.metrics["ap50_75"] == 1.0
    assert crossed.agreement == 0.0


def test_described_points_count_where_the_reference_sees_them() -> None:
    one = {"points": [[0, 0], [10, 10], [5, 5]], "visibility": [0.9, 0.9, 0.1], "skeleton": [[0, 1]]}
    assert compare([one], [{**one, "points": [[0, 0], [10, 10], [90, 90]]}]).agreement == 1.0
    assert compare([one], [{**one, "points": [[9, 9], [1, 1], [5, 5]]}]).agreement < 0.1
    assert compare([one], [{}]).agreement == 0.0
    assert compare([{**one, "visibility": [0.0] * 3}], [one]).metrics["oks"] == 1.0
