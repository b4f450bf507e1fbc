"""One image, the images of a folder, or those that match a pattern."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Images:
    """Images in a fixed order."""

    live = False
    fps: float | None = None

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._next = 0

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next image; see :class:`Source`."""
        if self._next >= len(self._paths):
            return None
        path = self._paths[self._next]
        self._next += 1
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror}") from None
        return decode_image(data, str(path))

    def rewind(self) -> None:
        """Start over."""
        self._next = 0

    def close(self) -> None:
        """Nothing is held open."""


def decode_image(data: bytes, origin: str = "image") -> Pixels:
    """Decode JPEG, PNG, … to H×W×3 B, G, R, upright as its EXIF data says. Raises SourceError."""
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        raise SourceError(f"{origin} is not an image that can be decoded", "JPEG, PNG, BMP, WebP and TIFF can")
    return np.asarray(image, np.uint8)


def in_folder(folder: Path) -> list[Path]:
    """Return the images of a folder in name order. Raises SourceError when there are none."""
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise SourceError(f"{folder} holds no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images


def matching(pattern: str) -> list[Path]:
    """Return the files that `pattern` matches (``**``: any folders), in name order. Raises SourceError when none do."""
    found = sorted(path for name in glob.iglob(pattern, recursive=True) if (path := Path(name)).is_file())
    if not found:
        raise SourceError(f"{pattern} matches no file on this host")
    return found
