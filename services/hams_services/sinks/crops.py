"""A folder of images: each object found, cut out of its frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hams_client import Result
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels


class CropFolder:
    """Writes ``FOLDER/STREAM/FRAME-INDEX-LABEL.jpg``."""

    def __init__(self, folder: Path, labels: frozenset[str], least: float) -> None:
        self._folder = folder
        self._labels = labels
        self._least = least
        self.written = 0

    def write(self, result: Result, image: Pixels) -> None:
        """Write the wanted objects of one frame. Raises SourceError when a file cannot be written."""
        height, width = image.shape[:2]
        for index, one in enumerate(result.objects):
            if one.score < self._least or (self._labels and one.label not in self._labels):
                continue
            x0, y0, x1, y1 = np.rint(one.box).astype(int).clip(0, (width, height, width, height)).tolist()
            if x1 <= x0 or y1 <= y0:
                continue
            label = "".join(c if c.isalnum() else "-" for c in one.label)
            path = self._folder / result.stream / f"{result.frame:06d}-{index}-{label}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), image[y0:y1, x0:x1]):
                raise SourceError(f"cannot write {path}", "is the disk full?")
            self.written += 1
