"""Rotated boxes: corners, angles and suppression, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_agents.tasks import rotated
from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import apply
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.group.node_spec import CropSpec, InputSpec, TaskSpec
from support import oracles

SIZE = (128, 96)
IDENTITY = np.eye(2, 3)
LABELS = ("ship", "plane")
ANGLE = st.floats(-math.pi / 4, 3 * math.pi / 4 - 1e-6)
SIDE = st.floats(2, 60)
PLACE = st.floats(-10, 120)


def task(**params: Any) -> DetectionTask:
    built = build_task(TaskSpec.model_validate({"type": "obb", "labels": LABELS, **params}), InputSpec(size=SIZE))
    assert is_detection(built)
    return built


def export(boxes: list[tuple[float, ...]], scores: list[tuple[float, float]], form: str = "v8") -> np.ndarray:
    """x, y, w, h, angle and two scores as Ultralytics writes them."""
    rows = np.zeros((252, 7), np.float32)
    rows[:, 2:4] = 5
    for row, box, chances in zip(rows, boxes, scores, strict=False):
        row[:4], row[4:6], row[6] = box[:4], chances, box[4]
    if form == "v8":
        return rows.T[None]
    listed = [(*box[:4], max(two), two.index(max(two)), box[4]) for box, two in zip(boxes, scores, strict=True)]
    return np.array([listed], np.float32)


@given(x=PLACE, y=PLACE, w=SIDE, h=SIDE, angle=ANGLE, form=st.sampled_from(["v8", "end2end"]))
@settings(max_examples=60)
def test_corners_go_clockwise_from_top_left(x: float, y: float, w: float, h: float, angle: float, form: str) -> None:
    [found] = task().detect({"o": export([(x, y, w, h, angle)], [(0.9, 0.1)], form)}, [IDENTITY])
    [one] = found
    wanted = np.array(oracles.corners(x, y, w, h, angle))
    turns = [np.abs(np.roll(wanted, k, axis=0) - one.points).max() for k in (0, 2)]
    assert min(turns) < 0.01
    top, right = one.points[1] - one.points[0], one.points[2] - one.points[1]
    assert top[0] >= -1e-4
    assert top[0] * right[1] - top[1] * right[0] > 0  # clockwise, y down
    assert -90 <= one.angle < 90
    assert math.degrees(math.atan2(top[1], top[0])) == pytest.approx(one.angle, abs=1e-2) or one.angle == -90
    assert one.box == pytest.approx((*wanted.min(axis=0), *wanted.max(axis=0)), abs=0.01)


@given(data=st.data())
@settings(max_examples=40)
def test_overlap_is_that_of_the_paper(data: st.DataObject) -> None:
    pair = [tuple(data.draw(strategy) for strategy in (PLACE, PLACE, SIDE, SIDE, ANGLE)) for _ in range(2)]
    boxes = np.array(pair)
    spread = rotated._covariances(boxes)
    [found] = rotated.probabilistic_iou(boxes[0], boxes[1:], spread[0], spread[1:])
    assert found == pytest.approx(oracles.probiou(*pair), abs=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_suppression_within_a_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [
        tuple(map(float, (*rng.uniform(20, 90, 2), *rng.uniform(10, 40, 2), rng.uniform(-0.7, 2.3)))) for _ in range(60)
    ]
    scores = [tuple(map(float, np.float32(rng.uniform(0.2, 1, 2)))) for _ in boxes]
    [found] = task(iou=0.4, threshold=0.6).detect({"o": export(boxes, scores)}, [IDENTITY])
    rows = [(b, None, None, None, max(s), s.index(max(s))) for b, s in zip(boxes, scores, strict=True) if max(s) >= 0.6]
    kept = oracles.suppressed(rows, 0.4, lambda a, b: oracles.probiou(a[0], b[0]))
    assert [(one.label, one.score) for one in found] == [(LABELS[row[5]], pytest.approx(row[4])) for row in kept]


def test_a_stretched_and_a_mirrored_image_keep_the_order() -> None:
    raw = {"o": export([(60, 40, 40, 10, math.radians(30))], [(0.9, 0.1)])}
    [[plain]] = task().detect(raw, [IDENTITY])
    for affine in (
        np.array([[3.0, 0, 5], [0, 1, 2]]),
        np.array([[-1.0, 0, 128], [0, 1, 0]]),
        np.array([[-1.0, 0, 128], [0, -1, 96]]),
    ):
        [[one]] = task().detect(raw, [affine])
        moved = apply(affine, plain.points)
        assert sorted(map(tuple, moved.round(3).tolist())) == sorted(map(tuple, one.points.round(3).tolist()))
        top, right = one.points[1] - one.points[0], one.points[2] - one.points[1]
        assert top[0] > 0
        assert top[0] * right[1] - top[1] * right[0] > 0


def test_a_crop_of_it_stands_upright() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    box = (64.0, 48.0, 60.0, 20.0, math.radians(35))
    quad = np.array(oracles.corners(*box))
    y, x = np.mgrid[0:96, 0:128] + 0.5
    u = (x - 64) * math.cos(box[4]) + (y - 48) * math.sin(box[4])
    v = -(x - 64) * math.sin(box[4]) + (y - 48) * math.cos(box[4])
    inside = (np.abs(u) < 30) & (np.abs(v) < 10)
    image[inside & (u < 0)] = (255, 0, 0)
    image[inside & (u >= 0)] = (0, 0, 255)
    [[one]] = task().detect({"o": export([box], [(0.9, 0.1)])}, [IDENTITY])
    assert np.allclose(one.points, quad, atol=1e-3)
    crops, _, _ = cut(image, None, [one], CropSpec(align="corners"), (60, 20))
    assert crops[0, 3:17, 3:27].reshape(-1, 3).min(axis=0).tolist() == [255, 0, 0]
    assert crops[0, 3:17, 33:57].reshape(-1, 3).min(axis=0).tolist() == [0, 0, 255]
