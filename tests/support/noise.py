"""Pictures that show nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def noise(folder: Path, count: int, size: int = 16, height: int = 0) -> Path:
    """Make `folder` and `count` pictures of size×size (or size×height) in it."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:02}.png"), random.integers(0, 256, (height or size, size, 3), dtype=np.uint8))
    return folder
