"""Work for children is never more than one message takes."""

from __future__ import annotations

import numpy as np
import pytest

from hams_agents.runtime import crop_work
from hams_agents.runtime.crop_work import cut_crops, deferred_crops
from hams_agents.tasks.base import Detected
from hams_agents.tasks.input import IDENTITY
from hams_shared.group.node_spec import CropSpec, InputSpec
from hams_shared.wire.frames import FrameId, Work, pack_works, unpack_works

SIDE = 1280
FITS = 54
"""Crops of that side in a message."""


def found(count: int) -> list[Detected]:
    return [Detected((10.0 + n % 40, 10, 60, 60), 0.5 + n / 1000, "face") for n in range(count)]


def work(images: int = 1) -> Work:
    pixels, maps = np.zeros((images, 64, 64, 3), np.uint8), np.repeat(IDENTITY[None], images, axis=0)
    return Work(FrameId("g", "cam", 0, 0, 1, 0.0), "det", pixels, maps, [*range(images)], (64, 64))


def test_places_of_crops_fit_a_message_and_are_those_of_the_best() -> None:
    """With the default `max_count` of 64."""
    made = deferred_crops(work(), "age", CropSpec(), InputSpec(size=(SIDE, SIDE)), found(FITS + 6))
    assert made.sources == list(range(6, FITS + 6))
    [there] = unpack_works(pack_works([made]))
    assert there.count == FITS


@pytest.mark.parametrize("pad", ["stretch", "letterbox"])
def test_crops_of_all_images_fit_a_message(monkeypatch: pytest.MonkeyPatch, pad: str) -> None:
    monkeypatch.setattr(crop_work, "MAX_PIXELS", 5 * 16 * 16 * 3)
    takes = InputSpec.model_validate({"size": (16, 16), "fit": pad})
    made = cut_crops(work(3), "age", CropSpec(), takes, [found(3), found(4), found(1)])
    assert made.images.shape == (5, 16, 16, 3)
    assert made.sources == [0, 1, 2, 5, 6]  # the first image's, and the best of the second's
    assert len(unpack_works(pack_works([made]))[0].to_frame) == 5


def test_what_fits_is_left_alone() -> None:
    crop = CropSpec(max_count=3)
    made = deferred_crops(work(), "age", crop, InputSpec(size=(SIDE, SIDE)), found(5))
    assert made.sources == [2, 3, 4]
    assert crop.max_count == 3
