"""Maps on pictures: where a pixel of the frame gets its colour from, and what is left alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.sinks.draw import annotate
from hams_services.sinks.draw_maps import class_color
from hams_services.sinks.draw_words import caption
from hams_shared.wire.quads import are_quads

GREY = np.full((500, 600, 3), 128, np.uint8)


def frame(**output: Any) -> list[dict[str, Any]]:
    return [{"box": [0, 0, 600, 500], "score": 1.0, "label": "frame", "scene": output}]


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def class_map(pixels: np.ndarray, **more: Any) -> dict[str, Any]:
    affine = [[100.0, 0.0, 0.0], [0.0, 100.0, 0.0]]
    return {
        "size": list(pixels.shape),
        "png": png(pixels),
        "to_frame": affine,
        "labels": {"1": "car", "2": "road"},
        **more,
    }


def test_each_class_has_its_color_and_the_background_none() -> None:
    pixels = np.zeros((5, 6), np.uint8)
    pixels[3:, :] = 2
    pixels[2, 4] = 1
    picture = annotate(GREY, frame(shares={"road": 0.4, "car": 0.03}, map=class_map(pixels)))
    for (x, y), number in {(50, 450): 2, (580, 320): 2, (410, 210): 1}.items():
        expected = np.array(class_color(number)) * 0.45 + 128 * 0.55
        assert picture[y, x].tolist() == pytest.approx(expected, abs=2)
    assert (picture[120:190, 20:580] == 128).all()


def test_a_map_of_a_turned_crop_lies_where_the_crop_was() -> None:
    to_frame = [[0.0, -10.0, 400.0], [10.0, 0.0, 100.0]]  # a quarter turn
    crop = class_map(np.full((4, 20), 2, np.uint8), to_frame=to_frame)
    picture = annotate(GREY, frame(map=crop))
    changed = (picture[20:480, 20:580] != 128).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert [columns.min() + 20, rows.min() + 20, columns.max() + 21, rows.max() + 21] == pytest.approx(
        [360, 100, 400, 300], abs=12
    )


def test_what_is_near_is_red() -> None:
    ramp = np.linspace(0, 65535, 6).astype(np.uint16)[None].repeat(5, axis=0)
    for kind, near in (("inverse", 550), ("metric", 50)):
        picture = annotate(GREY, frame(map=class_map(ramp, kind=kind, scale=1.0, offset=0.0)))
        blue, _, red = picture[250, near].tolist()
        assert red > blue + 60


@pytest.mark.parametrize(
    "bad",
    [
        {"png": b"x"},
        {"png": 3},
        {"to_frame": "x"},
        {"to_frame": [[0, 0, 0], [0, 0, 0]]},
        {"to_frame": [[1e30, 0, 0], [0, 1, 0]]},
        {"to_frame": [[1, 0, 9000], [0, 1, 0]]},
        {"labels": None},
        {"labels": {"x": 1, "99999999": "y"}},
    ],
)
def test_maps_that_cannot_be_drawn_are_left_out(bad: dict[str, Any]) -> None:
    picture = annotate(GREY, frame(map=class_map(np.ones((5, 6), np.uint8), **bad)))
    assert (picture[60:440, 60:540] == 128).all()


def test_a_text_is_outlined_by_its_corners_and_captioned_with_what_was_read() -> None:
    corners = [[100.0, 300.0], [300.0, 200.0], [320.0, 240.0], [120.0, 340.0]]
    one = {
        "box": [100, 200, 320, 340],
        "score": 0.8,
        "label": "text",
        "points": corners,
        "read": {"text": "AB 12", "score": 0.97},
    }
    picture = annotate(GREY, [one])
    assert (picture[250, 200] != 128).any()  # on the upper side
    assert (picture[200:215, 100:105] == 128).all()  # the box's corner
    assert caption(one) == "AB 12 97%"
    assert are_quads(np.array([corners]))
    assert not are_quads(np.array([corners])[:, [0, 2, 1, 3]])
    assert not are_quads(np.array([corners])[:, ::-1])


def test_the_largest_shares_are_written() -> None:
    shares = {"road": 0.5, "sky": 0.3, "car": 0.15, "tree": 0.05}
    assert caption(frame(label="road", score=0.5, shares=shares)[0]) == "road 50% · sky 30% · car 15%"
