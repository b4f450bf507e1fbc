"""Each page of docs/ is in the navigation of the site; relative links and anchors exist; named paths exist."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
PARTS = {"hams_services": "services", "hams_scheduler": "scheduler", "hams_agents": "agents"}
PARTS |= {"hams_shared": "shared", "hams_client": "shared"}
FOLDERS = ("services/", "scheduler/", "agents/", "shared/", "tests/", "examples/", "deploy/", "benchmarks/", "docs/")


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def prose(path: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def text_of(heading: str) -> str:
    """What a heading shows: without backquotes, emphasis and the targets of links."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")


def site_anchor(heading: str) -> str:
    """The anchor that Python-Markdown makes, which the site uses."""
    plain = unicodedata.normalize("NFKD", text_of(heading)).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def github_anchor(heading: str) -> str:
    """The anchor that GitHub makes, where the pages are read as well."""
    return re.sub(r"[^\w\- ]", "", text_of(heading).strip().lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors of a page that work on the site and on GitHub."""
    headings = re.findall(r"^#+ (.+?)\s*$", prose(path), re.MULTILINE)
    return frozenset(map(site_anchor, headings)) & frozenset(map(github_anchor, headings))


def links(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"[a-z]+:", target):
            yield target


def pages(nav: Any) -> Iterator[str]:
    """All pages of a part of the navigation."""
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages(one)


def test_each_page_is_in_the_navigation_once() -> None:
    named = list(pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert sorted(named) == sorted(path.relative_to(DOCS).as_posix() for path in PAGES)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_links_lead_somewhere(path: Path) -> None:
    wrong = []
    for target in links(path):
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        if not goal.exists():
            wrong.append(f"{target}: there is no such file")
        elif path.is_relative_to(DOCS) and not goal.is_relative_to(DOCS):
            wrong.append(f"{target}: it is not on the site")
        elif anchor and anchor not in anchors(goal):
            wrong.append(f"{target}: there is no such heading")
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_paths_in_the_text_exist(path: Path) -> None:
    """Paths of the repository in backquotes, as `scheduler/hams_scheduler/core.py` or `hams_scheduler/core.py`."""
    wrong = []
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", prose(path)):
        package = name.partition("/")[0]
        full = f"{PARTS[package]}/{name}" if package in PARTS else name
        if full.startswith(FOLDERS) and not ((ROOT / full).exists() or (DOCS / full).exists()):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_each_page_has_one_title(path: Path) -> None:
    if path.parent == DOCS / "benchmarks":
        pytest.skip("tables of a benchmark; their titles are in the navigation")
    titles = re.findall(r"^# .+$", prose(path), re.MULTILINE)
    assert len(titles) == 1
    assert prose(path).startswith(titles[0])


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_lines_wrap_at_120_columns(path: Path) -> None:
    """Rows of tables cannot wrap; code blocks show output as it is; docs/cli.md and reports are generated."""
    if path.name == "cli.md" or path.parent == DOCS / "benchmarks":
        pytest.skip("generated")
    long = [line for line in prose(path).splitlines() if len(line) > 120 and not line.lstrip().startswith("|")]
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_list_after_a_paragraph_has_an_empty_line_before_it(path: Path) -> None:
    """Without the line the site shows the list as a part of the paragraph."""
    if path.name == "cli.md" or path.parent == DOCS / "benchmarks":
        pytest.skip("generated")
    item = re.compile(r"( *)([-*] |\d+\. )")
    paragraph, wrong = False, []
    for line in prose(path).splitlines():
        starts = item.match(line)
        if starts and paragraph:
            wrong.append(line)
        if not line.strip() or starts:
            paragraph = False
        elif not line.startswith((" ", "#", "|")):
            paragraph = True
    assert wrong == []
