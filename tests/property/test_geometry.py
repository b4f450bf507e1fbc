"""Affine maps and resampling agree: a crop's pixel shows what its map says it shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import apply, compose, invert, opencv_map, prepare
from hams_shared.group.node_spec import CropSpec, InputSpec
from support.examples import examples

numbers = st.floats(-1000, 1000, allow_nan=False)
points = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).map(np.array)


@st.composite
def affines(draw: st.DrawFn) -> NDArray[np.float64]:
    angle = draw(st.floats(-math.pi, math.pi))
    x, y = draw(st.floats(0.05, 20)), draw(st.floats(0.05, 20))
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos * x, -sin * y, draw(numbers)], [sin * x, cos * y, draw(numbers)]])


def ramp(width: int, height: int) -> NDArray[np.uint8]:
    """A picture whose blue tells x and whose green tells y: 255 over the whole side."""
    x = (np.arange(width) + 0.5) * 255 / width
    y = (np.arange(height) + 0.5) * 255 / height
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.round(x)[None, :], np.round(y)[:, None]
    return image


def read_coordinates(image: NDArray[Any], width: int, height: int) -> NDArray[np.float64]:
    """The coordinates that pixels cut out of a ramp tell."""
    return np.stack((image[..., 0] * (width / 255), image[..., 1] * (height / 255)), axis=-1)


def centres(width: int, height: int) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)


@given(affines(), points)
def test_inverse_brings_points_back(affine: NDArray[np.float64], where: NDArray[np.float64]) -> None:
    assert np.allclose(apply(invert(affine), apply(affine, where)), where, atol=1e-6)


@given(affines(), affines(), points)
def test_composition_is_one_after_the_other(
    outer: NDArray[np.float64], inner: NDArray[np.float64], where: NDArray[np.float64]
) -> None:
    assert np.allclose(apply(compose(outer, inner), where), apply(outer, apply(inner, where)), rtol=1e-9, atol=1e-6)


@given(affines(), points)
def test_opencv_counts_centres_at_integers(affine: NDArray[np.float64], where: NDArray[np.float64]) -> None:
    assert np.allclose(apply(opencv_map(affine), where - 0.5), apply(affine, where) - 0.5, atol=1e-6)


@examples(60)
@given(st.integers(40, 700), st.integers(40, 700), st.integers(8, 200), st.integers(8, 200), st.booleans())
def test_input_pixels_show_what_their_map_says(w: int, h: int, to_w: int, to_h: int, letterbox: bool) -> None:
    spec = InputSpec(size=(to_w, to_h), layout="nhwc", fit="letterbox" if letterbox else "stretch")
    batch, (to_image,) = prepare([ramp(w, h)], spec)
    expected = apply(to_image, centres(to_w, to_h))
    inside = ((expected > 0) & (expected < (w, h))).all(axis=-1)
    margin = 2 + max(to_image[0, 0], to_image[1, 1])
    core = ((expected > margin) & (expected < np.array((w, h)) - margin)).all(axis=-1)
    error = np.abs(read_coordinates(batch[0], w, h) - expected)[core]
    # The ramp is rounded to a level, the result again, and OpenCV's fixed point takes a tenth of one.
    assert error.max(initial=0) <= 1.1 * max(w, h) / 255 + 0.25 * margin
    assert letterbox or inside.all()
    assert np.allclose(apply(to_image, np.array([[0.0, 0.0]])), 0)


@st.composite
def boxes(draw: st.DrawFn) -> Detected:
    x, y = draw(st.floats(60, 340)), draw(st.floats(60, 240))
    width, height = draw(st.floats(4, 100)), draw(st.floats(4, 100))
    angle = draw(st.floats(-3, 3))
    eyes = np.array([[x, y], [x + width / 2 * math.cos(angle), y + width / 2 * math.sin(angle)]])
    return Detected((x - width / 2, y - height / 2, x + width / 2, y + height / 2), 0.9, "face", eyes)


@examples(80)
@given(boxes(), st.floats(0.5, 2), st.booleans(), st.booleans())
def test_crop_pixels_show_what_their_map_says(one: Detected, enlarge: float, square: bool, level: bool) -> None:
    crop = CropSpec(enlarge=enlarge, square=square, align="eyes" if level else "none")
    crops, maps, kept = cut(ramp(400, 300), None, [one], crop, (24, 32))
    assert kept == [0]
    expected = apply(maps[0], centres(24, 32))
    step = float(np.hypot(maps[0][:, :2][0], maps[0][:, :2][1]).max())
    core = ((expected > 3 * step + 3) & (expected < np.array((400, 300)) - 3 * step - 3)).all(axis=-1)
    error = np.abs(read_coordinates(crops[0], 400, 300) - expected)[core]
    assert error.max(initial=0) <= 400 / 255 + 0.6 * step + 0.2
    middle = apply(maps[0], np.array([[12.0, 16.0]]))[0]
    assert np.allclose(middle, [(one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2])


@st.composite
def quadrilaterals(draw: st.DrawFn) -> NDArray[np.float64]:
    """Convex, clockwise: a turned rectangle whose corners are moved by up to a fifth of its sides."""
    width, height, angle = draw(st.floats(20, 120)), draw(st.floats(10, 60)), draw(st.floats(-3, 3))
    moved = np.array([[draw(st.floats(-0.2, 0.2)) for _ in range(2)] for _ in range(4)])
    corners = (np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) + moved) * (width, height)
    cos, sin = math.cos(angle), math.sin(angle)
    return corners @ np.array([[cos, sin], [-sin, cos]]) + (draw(st.floats(120, 280)), draw(st.floats(100, 200)))


@examples(80)
@given(quadrilaterals(), st.booleans(), st.booleans())
def test_rectified_pixels_show_what_the_corners_say(
    corners: NDArray[np.float64], mirror: bool, letterbox: bool
) -> None:
    """By the homography solved from its eight equations, not by OpenCV's."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    one = Detected((low[0], low[1], high[0], high[1]), 0.9, "x", corners)
    crop = CropSpec(align="corners", mirror=("x",) if mirror else ())
    (pixels,), (to_frame,), _ = cut(ramp(400, 300), None, [one], crop, (32, 24), 0 if letterbox else None)
    filled = (pixels[..., 0] > 0) & (pixels[..., 1] > 0)
    width, height = int(filled.any(axis=0).sum()), int(filled.any(axis=1).sum())
    assert (width == 32 or height == 24) if letterbox else (width, height) == (32, 24)
    rectangle = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    if mirror:
        rectangle = rectangle[[1, 0, 3, 2]]
    rows = []
    for (x, y), (u, v) in zip(rectangle, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    h = np.append(np.linalg.solve(np.array(rows), corners.ravel()), 1).reshape(3, 3)
    at = np.dstack((centres(width, height), np.ones((height, width)))) @ h.T
    expected = at[..., :2] / at[..., 2:]
    step = max(np.linalg.norm(np.diff(expected, axis=axis), axis=-1).max() for axis in (0, 1))
    error = np.abs(read_coordinates(pixels[:height, :width], 400, 300) - expected)
    assert error.max() <= 400 / 255 + 0.6 * step + 0.2
    middle = apply(to_frame, np.array([[width / 2, height / 2]]))[0]
    assert np.allclose(middle, corners.mean(axis=0))


@examples(40)
@given(boxes(), st.floats(0.3, 3), st.floats(-50, 50), st.floats(-50, 50))
@example(Detected((20.0, 58.0, 100.0, 62.0), 0.9, "x", None), 0.6614327379925933, 0.0, 0.0)  # 19.999… begins at 20
def test_a_scaled_image_gives_the_same_crop_and_the_same_map(one: Detected, s: float, dx: float, dy: float) -> None:
    """When the image is not the frame, crops still map to frame pixels."""
    to_frame = np.array([[s, 0, dx], [0, s, dy]])
    box = tuple(apply(to_frame, np.array([one.box[:2], one.box[2:]])).ravel().tolist())
    moved = Detected((box[0], box[1], box[2], box[3]), one.score, one.label, None)
    still = Detected(one.box, one.score, one.label, None)
    plain, plain_maps, _ = cut(ramp(400, 300), None, [still], CropSpec(), (16, 16))
    other, other_maps, _ = cut(ramp(400, 300), to_frame, [moved], CropSpec(), (16, 16))
    assert np.abs(plain.astype(int) - other).max() <= 1
    assert np.allclose(other_maps[0], compose(to_frame, plain_maps[0]), atol=1e-6)


@examples(150)
@given(
    st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True) | st.floats(-9, 99)] * 12), max_size=6),
    st.floats(0.01, 4),
    st.sampled_from([{"align": "eyes"}, {"align": "eyes", "square": True}, {"align": "corners"}]),
    st.sampled_from([None, 7]),
)
def test_no_box_whatever_breaks_cutting(
    where: list[tuple[float, ...]], enlarge: float, how: dict[str, Any], pad: int | None
) -> None:
    objects = [Detected((b[0], b[1], b[2], b[3]), 0.5, "x", np.array(b[4:]).reshape(-1, 2)) for b in where]
    with np.errstate(all="ignore"):
        crops, maps, kept = cut(
            ramp(64, 48), None, objects, CropSpec.model_validate({"enlarge": enlarge, **how}), (8, 8), pad
        )
    assert crops.shape == (len(kept), 8, 8, 3)
    assert maps.shape == (len(kept), 2, 3)
    assert np.isfinite(maps).all()
    assert kept == sorted(set(kept))
