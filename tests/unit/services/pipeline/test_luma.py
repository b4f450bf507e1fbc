"""The small grey image of a frame."""

from __future__ import annotations

import numpy as np
import pytest

from hams_services.pipeline.luma import WIDTH, small_luma
from hams_services.pipeline.tracking.flow import Flow


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((3840, 2160), (320, 180)),
        ((1920, 1080), (320, 180)),
        ((1280, 720), (320, 180)),
        ((768, 576), (384, 288)),
        ((641, 481), (320, 240)),
        ((384, 200), (384, 200)),
        ((500, 1), (250, 1)),
        ((4000, 2), (307, 1)),
        ((1, 1000), (1, 1000)),
    ],
)
def test_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = small_luma(np.zeros((size[1], size[0], 3), np.uint8))
    assert image.shape[::-1] == expected
    assert image.dtype == np.uint8
    assert image.shape[1] <= WIDTH


@pytest.mark.parametrize(("width", "levels"), [(300, (29, 150, 76)), (700, (29, 150, 76)), (1920, (0, 168, 87))])
def test_grey_levels_are_those_of_the_frame(width: int, levels: tuple[int, ...]) -> None:
    """Of BT.601; wide frames without blue, so that grey stays what it is."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]], np.uint8)  # B, G, R
    image = small_luma(np.repeat(np.repeat(colours, 50, axis=0)[:, None], width, axis=1))
    middles = (np.arange(4) * 2 + 1) * len(image) // 8
    assert image[middles].min(axis=1).tolist() == pytest.approx([*levels, 77], abs=1)
    assert (image[middles] == image[middles, :1]).all()


def test_things_are_where_they_are_in_the_frame() -> None:
    frame = np.zeros((1080, 1920, 3), np.uint8)
    frame[480:600, 1020:1140] = 255
    rows, columns = np.nonzero(small_luma(frame))
    assert (rows.min() * 6, columns.min() * 6) == (480, 1020)
    assert (rows.max() * 6 + 6, columns.max() * 6 + 6) == (600, 1140)


def test_the_flow_follows_what_moves_in_a_large_frame() -> None:
    random = np.random.default_rng(0)
    texture = np.kron(random.integers(0, 256, (30, 12)), np.ones((10, 10)))
    flow, box = Flow(), np.array([[600.0, 300, 720, 600]])
    for shift in (0, 15):
        frame = np.full((1080, 1920, 3), 90, np.uint8)
        frame[300:600, 600 + shift : 720 + shift] = texture[..., None]
        moved, known = flow.step(small_luma(frame), box, (1920, 1080))
    assert known.all()
    assert moved[0] == pytest.approx([15, 0, 0, 0], abs=3)
