"""A folder of sample images: the inputs of one node.

PNG or other image files in name order. ``index.json`` in the folder places each crop of a child node in its frame:
``{"0001.png": {"to_frame": [[…], […]], "frame_size": [w, h]}}``; a file without an entry is a frame of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hams_agents.tasks.base import Affine
from hams_agents.tasks.input import IDENTITY, Pixels
from hams_shared.errors import BadInputError

INDEX = "index.json"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Sample:
    """One image and its place in its frame."""

    name: str
    image: Pixels
    to_frame: Affine
    frame_size: tuple[int, int]
    """Width, height."""


class Samples:
    """The images of a folder, read one at a time.

    Raises:
        BadInputError: there are none, or the index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names = (
            sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        )
        if not self.names:
            raise BadInputError(f"{folder} holds no images", f"looked for {', '.join(sorted(SUFFIXES))}")
        self._index = _index(folder / INDEX)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> Sample:
        """Read one. Raises BadInputError when it is not an image."""
        path = self._folder / name
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise BadInputError(f"{path} is not a readable image")
        pixels = np.asarray(image, np.uint8)
        known = self._index.get(name)
        if known is None:
            return Sample(name, pixels, IDENTITY, (pixels.shape[1], pixels.shape[0]))
        try:
            affine = np.array(known["to_frame"], np.float64).reshape(2, 3)
            width, height = (int(side) for side in known["frame_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"{self._folder / INDEX}: the entry of {name} is damaged: {error}") from None
        return Sample(name, pixels, affine, (width, height))


class Writer:
    """Writes samples into a new folder, up to `limit` of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._index: dict[str, Any] = {}

    @property
    def full(self) -> bool:
        """Whether `limit` samples are written."""
        return len(self._index) >= self._limit

    def add(self, image: Pixels, to_frame: Affine, frame_size: tuple[int, int]) -> None:
        """Write one image, which has no padding, unless `limit` samples are written."""
        if self.full:
            return
        name = f"{len(self._index):06d}.png"
        if not cv2.imwrite(str(self._folder / name), image):
            raise BadInputError(f"cannot write {self._folder / name}", "is the disk full?")
        self._index[name] = {"to_frame": to_frame.tolist(), "frame_size": list(frame_size)}

    def close(self) -> int:
        """Write the index; return the number of samples."""
        (self._folder / INDEX).write_text(json.dumps(self._index, indent=0, sort_keys=True), encoding="utf-8")
        return len(self._index)


def _index(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise BadInputError(f"{path} is a map from file name to entry, not {type(found).__name__}")
    return found
