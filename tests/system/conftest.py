from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hams_services.models.sources import fetch
from hams_shared.errors import ModelFetchError
from hams_shared.runtime.process import cache_folder
from support.nats_server import own_nats_server
from support.up import ROOT, Up, cores

__all__ = ["own_nats_server"]

FACE = ROOT / "examples" / "face.yaml"


@pytest.hookimpl(tryfirst=True)  # before `-m` takes its choice
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of processes are slow, but for a few smoke tests: each kind of kill, Service F, the CLI, credentials."""
    for item in items:
        if item.get_closest_marker("system") and not item.get_closest_marker("smoke"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def face_file() -> Path:
    """Service F, with its networks in the cache."""
    group = yaml.safe_load(FACE.read_text())
    sources = [(node["model"], node.get("sha256")) for node in group["nodes"].values()]
    sources += [(stream["source"], None) for stream in group["streams"].values()]
    for source, digest in sources:
        try:
            fetch(source, digest, cache_folder())
        except ModelFetchError as error:
            pytest.skip(f"the networks of Service F cannot be fetched here: {error}")
    return FACE


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """A photograph with one face."""
    try:
        return fetch("pypi:scikit-image==0.26.0/skimage/data/astronaut.png", None, cache_folder())
    except ModelFetchError as error:
        pytest.skip(f"the photograph cannot be fetched here: {error}")


@pytest.fixture
def lossless_face(face_file: Path, tmp_path: Path) -> Path:
    """Service F on the video, once, losslessly, as fast as it goes."""
    group: dict[str, Any] = yaml.safe_load(face_file.read_text())
    for stream in group["streams"].values():
        stream.update(mode="lossless", pace="max", loop=False)
    path = tmp_path / "face.yaml"
    path.write_text(yaml.safe_dump(group, sort_keys=False))
    return path


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A system on two unlike devices."""
    with Up(tmp_path / "home", *cores()) as running:
        yield running
