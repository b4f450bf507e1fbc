"""`make sbom` lists what an image contains, and refuses what may not be shipped."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
POLICY = ROOT / "deploy/image/licences.toml"


def tool(name: str) -> SimpleNamespace:
    """The functions of a script in tools/."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / name)))


def package(licence: str | None, name: str = "some", purl: str = "pkg:pypi/some@1", **more: Any) -> dict[str, Any]:
    found = {} if licence is None else {"licenses": [{"license": {"name": licence}}]}
    return {"name": name, "version": "1", "purl": purl, **found, **more}


def library(name: str, wheel: str = "av") -> dict[str, Any]:
    return {"name": name, "group": wheel, "version": ""}


DEB = "pkg:deb/debian/some@1"


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (package("MIT"), ""),
        (package("License :: OSI Approved :: BSD License"), ""),
        ({**package(None), "licenses": [{"expression": "GPL-3.0-only OR (MIT AND Apache-2.0)"}]}, ""),
        ({**package(None), "licenses": [{"expression": "GPL-3.0-only AND MIT"}]}, "not in the list"),
        (package("GPL-3.0-only"), "not in the list"),
        (package("AGPL-3.0-or-later"), "AGPL-3.0-or-later is forbidden"),
        ({**package(None), "licenses": [{"expression": "MIT OR AGPL-3.0-only"}]}, "forbidden"),
        (package("License :: OSI Approved :: GNU Affero General Public License v3"), "forbidden"),
        (package(None), "pypi/some 1: its licence is unknown"),
        (package(None, "protobuf"), ""),  # stated in the policy
        (package("GPL-2+", purl=DEB), ""),  # Debian main: free, with its source at Debian
        (package("AGPL-3+", purl=DEB), "forbidden"),
        (package(None, purl=DEB), "deb/some 1: its licence is unknown"),
        (library("libx264"), ""),
        (library("libavcodec"), ""),
        (library("libnew"), "av/libnew: its licence is unknown"),
    ],
)
def test_what_may_be_shipped(component: dict[str, Any], text: str) -> None:
    tools = tool("licences.py")
    found = tools.fault(component, tools.load(POLICY))
    assert text in found
    assert bool(found) == bool(text)


def test_the_most_exact_line_about_a_library_counts() -> None:
    tools = tool("licences.py")
    policy = tools.load(POLICY)
    assert tools.licences(library("libavcodec"), policy) == ["LGPL-3.0-or-later"]
    assert tools.licences(library("libavcodec", "opencv_python_headless"), policy) == ["LGPL-2.1-or-later"]


def test_every_exception_has_a_reason() -> None:
    assert tool("licences.py").load(POLICY).stated
    text = POLICY.read_text(encoding="utf-8").partition("[stated]")[2].partition("[bundled]")[0]
    assert all("why =" in line for line in text.splitlines() if line.startswith('"'))


def test_a_table_for_each_image_and_a_code_for_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = tool("licences.py")
    good, bad = tmp_path / "runtime.cdx.json", tmp_path / "cuda.cdx.json"
    good.write_text(json.dumps({"components": [package("MIT"), library("libopus")]}))
    bad.write_text(json.dumps({"components": [package("AGPL-3.0-only")]}))
    assert tools.main(POLICY, [good]) == 0
    assert tools.main(POLICY, [good, bad]) == 1
    assert "cuda: pypi/some 1: AGPL-3.0-only is forbidden" in capsys.readouterr().out
    lines = (tmp_path / "runtime-licences.md").read_text().splitlines()
    assert lines[-2:] == [
        "| Python package | some | 1 | MIT |",
        "| library in a wheel | av/libopus |  | BSD-3-Clause |",
    ]


COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
License: GPL-2+
 On Debian systems: /usr/share/common-licenses/GPL-2.

Files: x
License: Expat
"""


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        (COPYRIGHT, ["Expat", "GPL-2", "GPL-2+"]),
        ("It was packaged by someone. You may use it.", ["LicenseRef-copyright-file"]),
        (f"License: {'Permission is granted to anybody ' * 3}", ["LicenseRef-copyright-file"]),
    ],
)
def test_licences_of_a_debian_package(text: str, licences: list[str]) -> None:
    assert tool("image_contents.py").licences_of(text) == licences


def test_debian_packages_and_libraries_in_wheels(tmp_path: Path) -> None:
    tools = tool("image_contents.py")
    (tmp_path / "doc/libx").mkdir(parents=True)
    (tmp_path / "doc/libx/copyright").write_text(COPYRIGHT)
    listed = "libx\t1:2.3-4\tamd64\tx\t1:2.3-4\nlost\t1\tall\tlost\t1\n"
    found, lost = tools.debian(listed, tmp_path / "doc", "bookworm")
    assert found["purl"] == "pkg:deb/debian/libx@1%3A2.3-4?arch=amd64&distro=bookworm"
    assert [one["license"]["name"] for one in found["licenses"]] == ["Expat", "GPL-2", "GPL-2+"]
    assert lost["licenses"] == []

    for name in ("av.libs/libopus-114e2b1a.so.0.11.1", "openvino/libs/libtbb.so.12", "av/core.cpython-312.so"):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).touch()
    names = [(one["group"], one["name"]) for one in tools.bundled(tmp_path / "site")]
    assert names == [("av", "libopus"), ("openvino", "libtbb")]


def test_files_of_others_in_the_packages_have_their_licence_beside_them() -> None:
    """`vendor` folders and minified scripts are of others; `license-files` in pyproject.toml takes their LICENSE*."""
    folders = {path for part in ("services", "shared", "scheduler", "agents") for path in (ROOT / part).rglob("vendor")}
    folders |= {path.parent for part in ("services", "shared") for path in (ROOT / part).rglob("*.min.*")}
    assert [folder for folder in folders if folder.is_dir() and not list(folder.glob("LICENSE*"))] == []
