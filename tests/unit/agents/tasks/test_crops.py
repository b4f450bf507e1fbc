from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut, views_of
from hams_agents.tasks.input import apply
from hams_shared.group.node_spec import CropSpec


def found(box: tuple[float, float, float, float], score: float = 0.9, label: str = "face") -> Detected:
    return Detected(box, score, label)


IMAGE = np.zeros((100, 200, 3), np.uint8)
IMAGE[20:60, 50:90] = (0, 0, 255)


def test_an_aligned_box_is_copied_exactly() -> None:
    crops, maps, kept = cut(IMAGE, None, [found((50, 20, 90, 60))], CropSpec(), (40, 40))
    assert kept == [0]
    assert (crops[0] == (0, 0, 255)).all()
    assert np.allclose(maps[0], [[1, 0, 50], [0, 1, 20]])


@pytest.mark.parametrize(
    ("crop", "size", "corners"),
    [
        ({}, (10, 10), [(50, 20), (90, 40)]),
        ({"enlarge": 2}, (10, 10), [(30, 10), (110, 50)]),
        ({"square": True}, (10, 10), [(50, 10), (90, 50)]),
        ({"square": True, "enlarge": 0.5}, (10, 10), [(60, 20), (80, 40)]),
        ({"square": True}, (40, 10), [(30, 20), (110, 40)]),  # the input's own proportions
    ],
)
def test_which_part_a_crop_shows(
    crop: dict[str, object], size: tuple[int, int], corners: list[tuple[float, float]]
) -> None:
    _, maps, _ = cut(IMAGE, None, [found((50, 20, 90, 40))], CropSpec.model_validate(crop), size)
    assert np.allclose(apply(maps[0], np.array([(0, 0), size], float)), corners)


def test_eyes_become_level() -> None:
    angle = math.radians(30)
    centre = np.array([70.0, 40.0])
    right = centre + 10 * np.array([math.cos(angle), math.sin(angle)])
    one = Detected((50, 20, 90, 60), 0.9, "face", np.array([centre, right]))
    crops, maps, _ = cut(IMAGE, None, [one], CropSpec(align="eyes"), (40, 40))
    to_crop = np.linalg.inv(np.vstack((maps[0], [0, 0, 1])))[:2]
    left_in_crop, right_in_crop = apply(to_crop, np.array([centre, right]))
    assert np.allclose(left_in_crop, (20, 20))
    assert np.allclose(right_in_crop, (30, 20))
    assert crops[0][20, 20, 2] == 255


@pytest.mark.parametrize("points", [None, [[70, 40]], [[70, 40], [70.5, 40]], [[math.nan, 1], [2, 3]]])
def test_without_usable_eyes_nothing_is_turned(points: list[list[float]] | None) -> None:
    one = Detected((50, 20, 90, 60), 0.9, "face", None if points is None else np.array(points))
    _, maps, _ = cut(IMAGE, None, [one], CropSpec(align="eyes"), (40, 40))
    assert np.allclose(maps[0], [[1, 0, 50], [0, 1, 20]])


def test_beyond_the_border_its_pixels_are_repeated() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image[:, :4] = 99
    crops, _, _ = cut(image, None, [found((-20, 10, 0.5, 30))], CropSpec(), (10, 10))
    assert (crops[0, :, :9] == 99).all()


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 10, 30),
        (10, 30, 30, 10),
        (math.nan, 0, 10, 10),
        (0, 0, math.inf, 10),
        (-50, -50, -10, -10),
        (500, 10, 600, 50),
    ],
)
def test_a_box_with_nothing_in_it_gives_no_crop(box: tuple[float, float, float, float]) -> None:
    crops, maps, kept = cut(IMAGE, None, [found(box), found((50, 20, 90, 60))], CropSpec(), (8, 6))
    assert kept == [1]
    assert crops.shape == (1, 6, 8, 3)
    assert maps.shape == (1, 2, 3)


def test_no_objects() -> None:
    crops, maps, kept = cut(IMAGE, None, [], CropSpec(), (8, 6))
    assert (crops.shape, maps.shape, kept) == ((0, 6, 8, 3), (0, 2, 3), [])
    assert crops.dtype == np.uint8


def test_labels_and_the_best_scores() -> None:
    box = (50.0, 20.0, 90.0, 60.0)
    objects = [found(box, s, label) for s, label in ((0.5, "car"), (0.9, "dog"), (0.7, "car"), (0.8, "car"))]
    assert cut(IMAGE, None, objects, CropSpec(labels=("car",)), (8, 8))[2] == [0, 2, 3]
    assert cut(IMAGE, None, objects, CropSpec(labels=("car",), max_count=2), (8, 8))[2] == [2, 3]
    assert cut(IMAGE, None, objects, CropSpec(max_count=1), (8, 8))[2] == [1]


def test_a_large_box_is_averaged_not_sampled() -> None:
    image = np.zeros((800, 800, 3), np.uint8)
    image[:, ::2] = 200
    for align in ("none", "eyes"):
        one = Detected((0, 0, 800, 800), 0.9, "x", np.array([[100.0, 100.0], [700.0, 110.0]]))
        crops, _, _ = cut(image, None, [one], CropSpec(align=align), (32, 32))
        assert np.abs(crops[0, 8:-8, 8:-8].astype(int) - 100).max() < 12


def test_the_image_may_be_read_only_and_grey_values_stay() -> None:
    image = np.frombuffer(bytes([7]) * 30 * 40 * 3, np.uint8).reshape(30, 40, 3)
    crops, _, _ = cut(image, None, [found((3.3, 4.7, 20.1, 25.9))], CropSpec(enlarge=1.7), (16, 16))
    assert (crops == 7).all()


PLATE = np.array([[60.0, 25], [85, 30], [84, 44], [59, 38]])
"""Corners of a plate seen askew, clockwise from top left."""


def plate(corners: np.ndarray = PLATE) -> Detected:
    low, high = corners.min(axis=0), corners.max(axis=0)
    return Detected((low[0], low[1], high[0], high[1]), 0.9, "plate", corners)


def checkered(corners: np.ndarray) -> np.ndarray:
    """A picture, 200×100, with a chequered plate in perspective, its top left square red; drawn by OpenCV alone."""
    chart = np.zeros((120, 240, 3), np.uint8)
    chart[:60, :120], chart[:60, 120:], chart[60:, :120], chart[60:, 120:] = (0, 0, 255), 255, 90, (255, 0, 0)
    source = np.array([[0, 0], [240, 0], [240, 120], [0, 120]], np.float32)
    to = cv2.getPerspectiveTransform(source, (corners * 8).astype(np.float32))
    return np.asarray(cv2.resize(cv2.warpPerspective(chart, to, (1600, 800)), (200, 100), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    "corners",
    [PLATE, PLATE[[1, 2, 3, 0]], np.array([[20.0, 10], [180, 30], [150, 90], [40, 60]])],
    ids=["askew", "on its side", "strong perspective"],
)
def test_corners_become_a_rectangle(corners: np.ndarray) -> None:
    (crop,), maps, kept = cut(checkered(corners), None, [plate(corners)], CropSpec(align="corners"), (48, 24))
    assert kept == [0]
    for where, color in (((6, 12), (0, 0, 255)), ((6, 36), (255,) * 3), ((18, 12), (90,) * 3), ((18, 36), (255, 0, 0))):
        around = crop[where[0] - 3 : where[0] + 3, where[1] - 6 : where[1] + 6].reshape(-1, 3)
        assert np.abs(around.astype(int) - color).max() < 40, where
    told = apply(maps[0], np.array([(0, 0), (48, 0), (48, 24), (0, 24)], float))
    assert np.allclose(told.mean(axis=0), corners.mean(axis=0))
    off = np.linalg.norm(corners[0] - corners[1] + corners[2] - corners[3]) / 4
    assert np.allclose(np.linalg.norm(told - corners, axis=1), off)


@pytest.mark.parametrize(
    "points",
    [
        None,
        PLATE[:3],
        PLATE[::-1],  # the other way round: a mirror image
        PLATE[[0, 2, 1, 3]],
        np.array([[60.0, 25], [85, 25], [70, 26], [59, 38]]),  # not convex
        np.array([[60.0, 25], [85, 25.1], [85, 25.2], [60, 25.1]]),
        np.where(np.eye(4, 2) > 0, math.nan, PLATE),
    ],
)
def test_without_usable_corners_the_box_is_shown(points: np.ndarray | None) -> None:
    one = Detected((50, 20, 90, 60), 0.9, "plate", points)
    _, maps, _ = cut(IMAGE, None, [one], CropSpec(align="corners"), (40, 40))
    assert np.allclose(maps[0], [[1, 0, 50], [0, 1, 20]])


def test_corners_in_an_image_that_is_not_the_frame_and_enlarged() -> None:
    to_frame = np.array([[2.0, 0, 100], [0, 4.0, -50]])
    image = checkered(PLATE)
    (here,), _, _ = cut(image, None, [plate()], CropSpec(align="corners", enlarge=1.2), (48, 24))
    (there,), maps, _ = cut(
        image, to_frame, [plate(apply(to_frame, PLATE))], CropSpec(align="corners", enlarge=1.2), (48, 24)
    )
    assert np.abs(here.astype(int) - there).max() <= 2
    width = np.linalg.norm(maps[0][:, 0]) * 48
    assert width == pytest.approx(1.2 * np.linalg.norm([50, 22]), rel=0.02)


@pytest.mark.parametrize(
    ("box", "size", "filled"),
    [
        ((50, 20, 90, 60), (80, 20), (20, 20)),
        ((50, 20, 90, 30), (80, 40), (80, 20)),
        ((50, 20, 90, 30), (20, 40), (20, 5)),
        ((50, 20, 90, 60), (40, 40), (40, 40)),
    ],
)
def test_a_padded_crop_keeps_the_proportions(
    box: tuple[float, float, float, float], size: tuple[int, int], filled: tuple[int, int]
) -> None:
    (crop,), maps, _ = cut(IMAGE, None, [found(box)], CropSpec(), size, pad=77)
    assert (crop[1 : filled[1] - 1, 1 : filled[0] - 1] == (0, 0, 255)).all()  # its rim mixes with what is around
    assert (crop[filled[1] :] == 77).all()
    assert (crop[:, filled[0] :] == 77).all()
    assert np.allclose(apply(maps[0], np.array([(0, 0), filled], float)), [box[:2], box[2:]])


def test_a_padded_plate_has_the_proportions_of_its_longer_sides() -> None:
    square = np.array([[10.0, 10], [90, 10], [90, 30], [10, 30]])
    (crop,), _, _ = cut(checkered(square), None, [plate(square)], CropSpec(align="corners"), (320, 48), pad=128)
    assert (crop[:, 192:] == 128).all()
    assert (crop[:, :192] != 128).any(axis=-1).all()


@pytest.mark.parametrize("far", [2e8, 1e18, math.inf, math.nan])
def test_corners_beyond_all_pixels_are_unfit(far: float) -> None:
    """They would make a message that its receiver refuses; the box is shown instead."""
    corners = np.array([[50.0, 20], [far, 20], [far, far], [50, far]])
    for crop in (CropSpec(align="corners"), CropSpec(align="corners", enlarge=4)):
        views, kept = views_of((100, 200), None, [Detected((50, 20, 90, 60), 0.9, "plate", corners)], crop, (40, 40))
        assert kept == [0]
        assert views[0].corners is None


def test_mirrored() -> None:
    left = Detected((50, 20, 90, 60), 0.9, "left", PLATE)
    right = Detected((50, 20, 90, 60), 0.9, "right", PLATE)
    image = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    for align in ("none", "eyes", "corners"):
        crop = CropSpec.model_validate({"align": align, "mirror": ["right"]})
        (plain, mirrored), maps, _ = cut(image, None, [left, right], crop, (32, 24))
        assert np.abs(plain[:, ::-1].astype(int) - mirrored).max() <= 2, align
        there = np.array([(3.0, 5.0), (20.0, 11.0)])
        assert np.allclose(apply(maps[0], there), apply(maps[1], (32, 0) + there * (-1, 1))), align


def test_square_and_corners_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="fit: letterbox"):
        CropSpec(square=True, align="corners")


@pytest.mark.parametrize("beyond", [0.0, 0.4])
@pytest.mark.parametrize("scale", [0.07, 0.4, 0.83, 1.31, 1.97, 2.6])
def test_an_upright_crop_is_what_bilinear_sampling_shows(scale: float, beyond: float) -> None:
    """Also where up to `beyond` of it lies outside of the image."""
    random = np.random.default_rng(int(scale * 100))
    image = cv2.GaussianBlur(random.integers(0, 255, (400, 600, 3), np.uint8), (0, 0), 3.0)
    size = np.array([96, 64])
    for _ in range(20):
        across, down = size * scale * random.uniform(0.97, 1.03, 2)
        x, y = random.uniform(0, (600 - across, 400 - down)) + random.choice([-1, 0, 1], 2) * beyond * (across, down)
        x, y = np.clip(
            (x, y), (-beyond * across, -beyond * down), (600 - (1 - beyond) * across, 400 - (1 - beyond) * down)
        )
        crops, maps, _ = cut(image, None, [found((x, y, x + across, y + down))], CropSpec(), (96, 64))
        columns, rows = np.meshgrid(np.arange(96) + 0.5, np.arange(64) + 0.5)
        at = apply(maps[0], np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(64, 96, 2).astype(np.float32)
        wanted = cv2.remap(image, at[..., 0] - 0.5, at[..., 1] - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        off = np.abs(crops[0].astype(float) - wanted)
        assert off.max() <= (3 if scale < 2 else 12)  # of 255; beyond 2 pixels are averaged first
        assert off.mean() < (0.5 if scale < 2 else 1.5)
