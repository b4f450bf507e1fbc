"""What a release consists of: metadata, and builds that are equal byte for byte."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import hams_shared

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEEDS = ("build", "hatchling", "hatch_fancy_pypi_readme")


def test_the_version_is_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    path = PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{hams_shared.__version__}"' in (ROOT / path).read_text(encoding="utf-8")


def test_the_index_gets_no_links_into_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert all("/raw/" in target for target in targets if target.endswith((".jpg", ".png", ".svg")))


@pytest.mark.parametrize(
    ("second", "direct", "found"),
    [
        ({"w": b"1", "s": b"2"}, {"w": b"1"}, []),
        ({"w": b"0", "s": b"2"}, {"w": b"1"}, ["w"]),
        ({"w": b"1"}, {"w": b"1"}, ["s"]),
        ({"w": b"1", "s": b"2"}, {"w": b"3"}, ["w without the sdist"]),
    ],
)
def test_what_differs_is_named(second: dict[str, bytes], direct: dict[str, bytes], found: list[str]) -> None:
    differences = runpy.run_path(str(ROOT / "tools/dist_check.py"))["differences"]
    assert differences({"w": b"1", "s": b"2"}, second, direct) == found


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / ".git").exists() or any(find_spec(name) is None for name in NEEDS),
    reason="BUILDS ARE NOT COMPARED HERE: `make dist-check` does it, with the tools that it installs",
)
def test_two_builds_are_equal() -> None:
    argv = [sys.executable, str(ROOT / "tools/dist_check.py")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
