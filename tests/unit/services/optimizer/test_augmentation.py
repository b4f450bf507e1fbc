"""Changed images are images of the same kind, alike in both layouts, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from hams_services.optimizer.augmentation import varied


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_change_each_time_but_stay_images(kind: type) -> None:
    image = np.random.default_rng(0).integers(10, 200, (3, 40, 60)).astype(kind)
    random = np.random.default_rng(1)
    first, second = (varied(image, "nchw", random) for _ in range(2))
    assert first.shape == image.shape
    assert first.dtype == kind
    assert image.min() <= first.min() <= first.max() <= image.max()
    assert np.abs(first.astype(float) - second).mean() > 5
    same = varied(image.transpose(1, 2, 0), "nhwc", np.random.default_rng(1))
    assert np.array_equal(same.transpose(2, 0, 1), first)
