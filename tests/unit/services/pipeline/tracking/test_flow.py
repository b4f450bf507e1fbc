"""Boxes follow what is in the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hams_services.pipeline.tracking.flow import Flow, FlowSettings, front, median_flow

SIZE = (640, 360)
"""Of the frame; the luma image is half as large."""
TEXTURE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (400, 400)).astype(np.uint8), (5, 5), 1.2)


def picture(*things: tuple[float, float, int, int]) -> np.ndarray:
    """A luma image of grey with textured things: centre, width and height in pixels of the frame."""
    image = np.full((180, 320), 90, np.uint8)
    for number, (cx, cy, w, h) in enumerate(things):
        x0, y0 = (cx - w / 2) / 2, (cy - h / 2) / 2
        patch = cv2.resize(TEXTURE[number * 60 : number * 60 + 60, :60], (w // 2, h // 2))
        shift = np.array([[1, 0, x0], [0, 1, y0]], np.float64)
        moved = cv2.warpAffine(patch, shift, (320, 180), borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        mask = cv2.warpAffine(np.full_like(patch, 255), shift, (320, 180))
        image = np.where(mask > 127, moved, image)
    return image


def box(cx: float, cy: float, w: float, h: float) -> list[float]:
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def test_two_boxes_move_apart() -> None:
    flow = Flow()
    boxes = np.array([box(200, 180, 60, 120), box(400, 180, 60, 120)])
    flow.step(picture((200, 180, 60, 120), (400, 180, 60, 120)), boxes, SIZE)
    moved, known = flow.step(picture((210, 180, 60, 120), (393, 184, 60, 120)), boxes, SIZE)
    assert known.all()
    assert moved[0] == pytest.approx([10, 0, 0, 0], abs=1.5)
    assert moved[1] == pytest.approx([-7, 4, 0, 0], abs=1.5)


def test_what_comes_nearer_grows() -> None:
    flow, boxes = Flow(), np.array([box(320, 180, 120, 160)])
    flow.step(picture((320, 180, 120, 160)), boxes, SIZE)
    moved, known = flow.step(picture((320, 180, 132, 176)), boxes, SIZE)
    assert known.all()
    assert moved[0] == pytest.approx([0, 0, 12, 16], abs=4)


def test_nothing_is_known_without_texture_of_a_first_image_or_of_another_size() -> None:
    flow, boxes = Flow(), np.array([box(200, 180, 60, 120)])
    thing = picture((200, 180, 60, 120))
    assert not flow.step(thing, boxes, SIZE)[1].any()
    assert not flow.step(thing[:90], boxes, SIZE)[1].any()
    assert not flow.step(picture(), boxes, SIZE)[1].any()
    assert not flow.step(picture(), boxes, SIZE)[1].any()  # grey has no points
    moved, known = flow.step(picture(), np.empty((0, 4)), SIZE)
    assert (moved.shape, known.shape) == ((0, 4), (0,))


@pytest.mark.parametrize(
    "place",
    [box(-500, 180, 60, 120), box(900, 180, 60, 120), box(320, 900, 5, 5), box(0, 0, 1, 1), box(320, 180, 9000, 9000)],
)
def test_boxes_outside_of_the_image_and_beyond(place: list[float]) -> None:
    flow, boxes = Flow(), np.array([place, box(200, 180, 60, 120)])
    flow.step(picture((200, 180, 60, 120)), boxes, SIZE)
    moved, known = flow.step(picture((206, 180, 60, 120)), boxes, SIZE)
    assert np.isfinite(moved).all()
    assert known[1] or place[2] > 1000  # what ends lower hides the other


def test_no_more_boxes_than_asked_for() -> None:
    flow = Flow(FlowSettings(boxes=1))
    things = (200, 180, 60, 120), (400, 180, 60, 120)
    boxes = np.array([box(*thing) for thing in things])
    flow.step(picture(*things), boxes, SIZE)
    assert flow.step(picture(*things), boxes, SIZE)[1].tolist() == [True, False]


def test_a_hidden_part_does_not_move_the_box_behind() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 15.0, 20.0]])
    points = np.array([[2, 2], [7, 7], [12, 12], [50, 50]], np.float32)
    assert front(points, boxes).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("points", "there", "shift", "growth"),
    [
        ([[0, 0], [10, 0], [20, 0]], [[3, 1], [13, 1], [23, 1]], [3, 1], 1.0),
        ([[0, 0], [10, 0], [20, 0]], [[3, 1], [13, 1], [99, 99]], [3, 1], 1.0),  # one of three is wrong
        ([[0, 0], [10, 0], [20, 0], [30, 0]], [[-3, 0], [9, 0], [21, 0], [33, 0]], [0, 0], 1.2),
        ([[0, 0], [10, 0]], [[1, 0], [13, 0]], [2, 0], 1.2),
        ([[4, 4]], [[5, 6]], [1, 2], 1.0),
    ],
)
def test_medians(points: list[list[float]], there: list[list[float]], shift: list[float], growth: float) -> None:
    owner = np.full(len(points), 1)
    shifts, growths, count = median_flow(np.array(points, np.float32), np.array(there, np.float32), owner, 3)
    assert count.tolist() == [0, len(points), 0]
    assert shifts.tolist() == [[0, 0], pytest.approx(shift), [0, 0]]
    assert growths.tolist() == [1, pytest.approx(growth), 1]
