"""docs/backends.md shows the files of examples/backend as they are, and the devices that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from hams_agents.backends import ep_libraries
from hams_agents.backends.ep_libraries import Library
from hams_agents.devices import parse

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "backends.md").read_text()
EXAMPLE = ROOT / "examples" / "backend"


def test_the_page_shows_the_example_as_it_is() -> None:
    code, settings = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.S)
    assert code == (EXAMPLE / "hams_reference.py").read_text()
    assert settings == (EXAMPLE / "pyproject.toml").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 60
    project = tomllib.loads(settings)["project"]
    assert project["entry-points"]["hams.backends"] == {"reference": "hams_reference:Reference"}


def test_its_devices_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = {name: Library(name, name, name) for name in ("WebGpu", "OpenVINO", "NvTensorRTRTX", "QNN")}
    monkeypatch.setattr(ep_libraries, "installed", lambda: {name.lower(): one for name, one in wheels.items()})
    table = PAGE[PAGE.index("| device |") : PAGE.index("The last column")]
    names = re.findall(r"`((?:openvino|onnxruntime):\S+?)(?:@\d+)?`", table)
    assert len(names) == 11
    for name in names:
        assert str(parse(name)) == name
