from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hams_services.sinks import draw_text
from hams_services.sinks.draw import annotate
from hams_services.sinks.draw_text import fold, printable
from hams_services.sinks.draw_words import caption

FACE: dict[str, Any] = {
    "box": [100, 100, 200, 240],
    "score": 0.92,
    "label": "face",
    "points": [[130, 150], [170, 150], [150, 180], [135, 210], [165, 210]],
    "gender": {"label": "female", "score": 0.97},
    "age": {"value": 31.4, "unit": "years"},
    "emotion": {"label": "happy", "score": 0.83},
    "landmarks": {
        "points": [[120 + i % 60, 120 + i // 5] for i in range(468)],
        "score": 0.99,
        "pose": {"yaw": 20, "pitch": -5, "roll": 3},
    },
}


def picture(width: int = 640, height: int = 480) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (FACE, "female 97% · 31 y · happy 83%"),
        ({"box": [0, 0, 1, 1], "label": "car", "score": 0.5}, "car 50%"),
        ({"box": [0, 0, 1, 1]}, ""),
        ({"plate": {"text": "ABC\n123"}}, "ABC 123"),
        ({"speed": {"value": 0.123456, "unit": "m/s"}}, "0.123 m/s"),
        ({"age": {"value": math.nan}, "x": {"label": 3}, "y": None, "z": [1]}, ""),
        ({"label": "face", "landmarks": {"points": [[1, 2]], "score": 0.9}}, "face"),
        ({"label": "car", "score": 0.9, "plate": {"objects": [{"label": "plate", "score": 0.8}]}}, "car 90%"),
        (
            {
                "label": "car",
                "kind": {"label": "van"},
                "plate": {"objects": [{"label": "plate", "text": {"text": "AB 1", "score": 0.98}}, 7, {"text": "no"}]},
            },
            "van · AB 1 98%",
        ),
        ({"label": "sign", "text": {"text": ""}}, "sign"),
    ],
)
def test_caption(item: dict[str, Any], text: str) -> None:
    assert caption(item) == text


@pytest.mark.parametrize("found", [3, True, "two", {"a": 1}, [3]])
def test_objects_of_a_task_of_one_s_own_may_be_anything(found: Any) -> None:
    one = {"box": [100, 100, 200, 240], "label": "shelf", "count": {"objects": found, "label": "full", "map": {}}}
    assert caption(one) == "full"
    assert annotate(picture(), [one]).shape == (480, 640, 3)


def test_the_picture_is_a_copy_and_is_drawn_on() -> None:
    image = picture()
    result = annotate(image, [FACE])
    assert (image == 128).all()
    assert result.shape == image.shape
    changed = (result != 128).any(axis=-1)
    assert changed[100, 100:200].mean() > 0.9  # the upper side
    assert changed[100:240, 200].mean() > 0.9  # the right side
    assert changed[:95].any()  # the plate above
    assert not changed[300:].any()


def test_a_small_picture_is_enlarged() -> None:
    result = annotate(picture(176, 144), [{"box": [10, 20, 60, 80]}])
    assert result.shape == (576, 704, 3)
    assert (result[80, 40:240] != 128).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (4000, 30), (2000, 1500)])
def test_any_size(size: tuple[int, int]) -> None:
    assert annotate(picture(*size), [FACE, {"box": [0, 0, *size]}]).size > 0


def test_plates_do_not_cover_each_other() -> None:
    """Two boxes at one place: the second plate goes elsewhere."""
    alone = annotate(picture(), [FACE])
    both = annotate(picture(), [FACE, {**FACE, "gender": {"label": "male", "score": 0.9}}])
    plate = (alone != 128).any(axis=-1)
    plate[95:] = False
    assert (both[plate] == alone[plate]).mean() > 0.99
    assert (both != 128).any(axis=-1)[242:].any() or (both != 128).any(axis=-1)[:70].any()


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"box": None},
        {"box": [1, 2, 3]},
        {"box": ["a", 2, 3, 4]},
        {"box": [math.nan, 0, 1, 1]},
        {"box": [-1e30, 0, 1e30, 1]},
        {"box": [10, 10, 50, 50], "points": "none"},
        {"box": [10, 10, 50, 50], "points": [[math.nan, 1]]},
        {"box": [10, 10, 50, 50], "points": []},
        {"box": [10, 10, 50, 50], "mesh": {"points": [[1, 2, 3], [4, 5, 6]], "pose": None}},
        {"box": [10, 10, 50, 50], "pose": {"yaw": "x", "pitch": None, "roll": math.inf}},
        {"box": [-100, -100, -50, -50], "label": "away"},
        {"box": [10, 10, 50, 50], "plates": {"objects": [{"box": [12, 12, 40, 20], "label": "p"}, 7, {}]}},
    ],
)
def test_no_result_breaks_drawing(item: dict[str, Any]) -> None:
    annotate(picture(), [item, FACE])


def test_parts_of_points_have_no_box() -> None:
    eye = {"box": [300, 300, 340, 340], "label": "eye", "iris": {"points": [[320, 320]]}}
    shown = annotate(picture(), [{"box": [100, 100, 200, 240], "mesh": {"points": [[150, 150]], "objects": [eye]}}])
    assert (shown[300, 300:340] == 128).all()
    assert (shown[320, 320] != 128).any()
    iris = {"points": [[320, 320], [330, 320], [320, 310], [310, 320], [320, 330]]}
    shown = annotate(
        picture(),
        [{"box": [100, 100, 200, 240], "mesh": {"points": [[150, 150]], "objects": [{**eye, "iris": iris}]}}],
    )
    assert (shown[313, 313] != 128).any()  # a ring through its four outer points
    shown = annotate(picture(), [{"box": [100, 100, 200, 240], "eyes": {"objects": [eye]}}])
    assert (shown[300, 300:340] != 128).any(axis=-1).all()


def eye(label: str, x: float, width: float, openness: float | None) -> dict[str, Any]:
    """An eye whose iris has its middle at (x, 160)."""
    iris: dict[str, Any] = {"points": [[x, 160], [x + 6, 160], [x, 154], [x - 6, 160], [x, 166]]}
    iris |= {} if openness is None else {"open": openness}
    half = width / 2
    return {"box": [x - half, 160 - half, x + half, 160 + half], "label": label, "iris": iris}


@pytest.mark.parametrize(
    ("openness", "width", "drawn"),
    [(0.3, 40, True), (None, 40, True), (0.3, 25, True), (0.15, 40, False), (0.0, 40, False), (0.3, 15, False)],
)
def test_no_iris_is_drawn_for_an_eye_that_is_shut_or_turned_away(
    openness: float | None, width: float, drawn: bool
) -> None:
    eyes = [eye("left_eye", 130, width, openness), eye("right_eye", 170, 40, 0.3)]
    face = {"box": [100, 100, 200, 240], "mesh": {"points": [[150, 230]], "score": 1.0, "objects": eyes}}
    shown = annotate(picture(), [face])
    assert (shown[150:170, 160:180] != 128).any()  # the other one
    assert (shown[150:170, 120:140] != 128).any() == drawn


def test_points_of_nothing_are_not_drawn() -> None:
    absent = {"box": [100, 100, 200, 240], "landmarks": {**FACE["landmarks"], "score": 0.1}}
    assert (annotate(picture(), [absent])[130:200, 120:180] == 128).all()


@pytest.mark.parametrize("text", ["ż·ółć 京A12345 😀", "tab\there", "x" * 500, ""])
@pytest.mark.parametrize("old", [False, True])
def test_any_text(monkeypatch: pytest.MonkeyPatch, text: str, old: bool) -> None:
    if old:
        monkeypatch.setattr(draw_text, "_FACE", None)
    result = annotate(picture(), [{"box": [500, 300, 600, 400], "label": text}])
    assert result.shape == (480, 640, 3)


def test_letters_without_a_stroke_font() -> None:
    assert fold("Zażółć · 20 °") == "Zazo?c | 20  deg"
    assert printable("a\tb\x00c") == "a b c"
