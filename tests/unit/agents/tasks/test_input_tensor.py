from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hams_agents.tasks.input import prepare
from hams_shared.errors import BadInputError
from hams_shared.group.node_spec import InputSpec


def picture(width: int, height: int, color: tuple[int, int, int] = (10, 20, 30)) -> np.ndarray:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = color
    return image


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"color": "bgr"}, (10, 20, 30)),
        ({"color": "rgb"}, (30, 20, 10)),
        ({"color": "rgb", "layout": "nhwc"}, (30, 20, 10)),
        ({"color": "rgb", "mean": (1, 2, 3)}, (29, 18, 7)),
        ({"color": "rgb", "mean": (1, 2, 3), "layout": "nhwc"}, (29, 18, 7)),
        ({"color": "rgb", "scale": (2, 4, 5)}, (15, 5, 2)),
        ({"color": "rgb", "scale": (2, 4, 5), "mean": (10,)}, (10, 2.5, 0)),
        ({"color": "rgb", "scale": (2, 4, 5), "mean": (10,), "layout": "nhwc"}, (10, 2.5, 0)),
        ({"color": "bgr", "mean": (10,), "scale": (10,), "layout": "nhwc"}, (0, 1, 2)),
        ({"color": "gray"}, (22,)),  # 0.114 B + 0.587 G + 0.299 R
        ({"color": "gray", "layout": "nhwc", "mean": (2,), "scale": (10,)}, (2,)),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(16, 8), (200, 160)])
def test_color_layout_mean_and_scale(
    spec: dict[str, Any], expected: tuple[float, ...], count: int, size: tuple[int, int]
) -> None:
    batch, maps = prepare([picture(*size)] * count, InputSpec(size=size, **spec))
    assert batch.dtype == np.float32
    assert batch.shape == InputSpec(size=size, **spec).shape(count)
    channels_last = batch if spec.get("layout") == "nhwc" else batch.transpose(0, 2, 3, 1)
    assert np.allclose(channels_last, expected, atol=1e-5)
    assert len(maps) == count


def test_bytes_stay_bytes() -> None:
    for layout in ("nchw", "nhwc"):
        batch, _ = prepare([picture(8, 8)] * 2, InputSpec(size=(8, 8), dtype="u8", layout=layout, color="rgb"))
        assert batch.dtype == np.uint8
        assert batch.ravel()[0] == 30


def test_letterbox_pads_right_and_bottom_with_black() -> None:
    batch, (to_image,) = prepare(
        [picture(100, 40)], InputSpec(size=(50, 50), fit="letterbox", layout="nhwc", mean=(5,))
    )
    assert np.allclose(batch[0, :20], (5, 15, 25))
    assert np.allclose(batch[0, 20:], -5)
    assert np.allclose(to_image, [[2, 0, 0], [0, 2, 0]])


def test_letterbox_pads_with_a_value() -> None:
    spec = InputSpec(size=(50, 50), fit="letterbox", pad=128, layout="nhwc", mean=(127.5,), scale=(127.5,))
    batch, _ = prepare([picture(40, 100)], spec)
    assert np.allclose(batch[0, :, 20:], 0.5 / 127.5, atol=1e-6)
    with pytest.raises(ValidationError, match="pad needs fit: letterbox"):
        InputSpec(size=(50, 50), pad=1)


def test_letterbox_of_an_extreme_strip_keeps_a_row() -> None:
    batch, (to_image,) = prepare([picture(4000, 3)], InputSpec(size=(32, 32), fit="letterbox"))
    assert batch[0, 0, 0].any()
    assert np.allclose(to_image, [[125, 0, 0], [0, 3, 0]])


def test_shrinking_strongly_does_not_alias() -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    image[:, ::2] = 200  # stripes of one pixel: their mean is 100
    for side in (40, 64, 100, 150):
        batch, _ = prepare([image], InputSpec(size=(side, side), layout="nhwc"))
        assert np.abs(batch - 100).max() < 35, side


def test_read_only_images_and_none_at_all() -> None:
    image = np.frombuffer(bytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
    assert prepare([image], InputSpec(size=(8, 8)))[0].shape == (1, 3, 8, 8)
    assert prepare([image], InputSpec(size=(16, 16)))[0].shape == (1, 3, 16, 16)
    batch, maps = prepare([], InputSpec(size=(8, 8)))
    assert batch.shape == (0, 3, 8, 8)
    assert maps == []


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 5), (5, 5, 4)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match="H×W×3"):
        prepare([np.zeros(shape, np.uint8)], InputSpec(size=(8, 8)))


def test_bytes_cannot_be_normalised() -> None:
    with pytest.raises(ValidationError, match="need dtype: f32"):
        InputSpec(size=(8, 8), dtype="u8", mean=(1,))
