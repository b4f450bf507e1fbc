from __future__ import annotations

import math

import numpy as np
import pytest

from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.geometry import apply
from hams_shared.group_spec import CropSpec


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
