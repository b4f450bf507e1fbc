"""docs/testing.md names tests that exist, in the tiers they run in; its example works (tests/world/test_example.py)."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests"
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
TIERS = ("unit", "test", "all")
SLOW = {"slow", "nco", "train"}

Marks = dict[str, set[str]]
"""Each test of a file, and its markers."""


def rows() -> list[tuple[str, list[str], list[str]]]:
    """Promise, tests as ``path::pattern``, tiers, for each row of the tables of promises."""
    table = PAGE.partition("\n## Promises and their tests\n")[2]
    found = []
    for line in table.splitlines():
        if not line.startswith("| ") or line.startswith("| promise"):
            continue
        promise, tests, tiers = re.fullmatch(r"\| (.+) \| (.+?) \| ([a-z, ]+) \|", line).groups()  # type: ignore[union-attr]
        named, path = [], ""
        for one in re.findall(r"`([^`]+)`", tests):
            path = one.partition("::")[0] or path
            named.append(f"{path}::{one.partition('::')[2]}")
        found.append((promise, named, tiers.split(", ")))
    return found


def marks(nodes: list[ast.expr]) -> set[str]:
    """The markers among decorators, or in the value of `pytestmark`."""
    written = (ast.unparse(node.func if isinstance(node, ast.Call) else node) for node in nodes)
    return {text.removeprefix("pytest.mark.") for text in written if text.startswith("pytest.mark.")}


@cache
def in_file(path: Path) -> Marks:
    """The tests of a file, without importing it; of a state machine, the name of its test case.

    Markers of a file and of a function are seen, those of a single parameter are not.
    """
    found: Marks = {}
    common: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name.startswith("test_"):
                found[node.name] = marks(node.decorator_list)
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=ast.List(elts=several)):
                common = marks(several)
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=one):
                common = marks([one])
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(attr="TestCase")):
                found[name] = set()
    return {name: own | common for name, own in found.items()}


def tier(folder: str, own: set[str]) -> str:
    """Where a test with these markers runs."""
    processes = folder == "compose" or (folder == "system" and "smoke" not in own)
    if processes or own & SLOW:
        return "all"
    return "unit" if folder in ("unit", "property") else "test"


@pytest.mark.parametrize(("promise", "named", "tiers"), rows(), ids=[row[0][:50] for row in rows()])
def test_a_promise_has_its_tests(promise: str, named: list[str], tiers: list[str]) -> None:
    assert named, promise
    found = set()
    for one in named:
        path, _, pattern = one.partition("::")
        assert (TESTS / path).is_file(), f"there is no tests/{path}"
        matching = [own for name, own in in_file(TESTS / path).items() if fnmatchcase(name, pattern)]
        assert matching, f"tests/{path} has no test {pattern}"
        found |= {tier(path.partition("/")[0], own) for own in matching}
    assert tiers == [name for name in TIERS if name in found]


def test_every_page_has_promises() -> None:
    pages = set(re.findall(r"^### (\S+)$", PAGE, re.MULTILINE))
    others = {"benchmarks.md", "cli.md", "glossary.md", "index.md", "testing.md"}  # figures, words, overviews; this one
    assert pages == {path.name for path in (ROOT / "docs").glob("*.md")} - others
    assert len(rows()) >= 100
