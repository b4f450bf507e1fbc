"""Every environment variable that the code reads is in a table of the documents, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
VARIABLE = re.compile(r"\bHAMS_[A-Z][A-Z_]*[A-Z]\b")
PARTS = ("services", "scheduler", "agents", "shared")


def named(paths: list[Path]) -> set[str]:
    return {name for path in paths for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}


def rows(page: str) -> set[str]:
    """Variables that have a row of their own in a table of `page`."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return {name for line in lines if line.startswith("| `HAMS_") for name in VARIABLE.findall(line.split("|")[1])}


def test_what_the_code_reads_is_documented_and_nothing_else() -> None:
    code = named([path for part in PARTS for path in (ROOT / part).rglob("*.py")])
    assert code
    assert rows("operations.md") <= code
    assert code <= rows("operations.md") | rows("docker.md")  # `init` names some of compose's


def test_what_containers_and_units_are_told_is_documented() -> None:
    files = [*ROOT.glob("docker-compose*.yml"), ROOT / "Dockerfile"]
    files += [path for path in (ROOT / "deploy").rglob("*") if path.suffix in (".yml", ".service", ".env", ".conf")]
    known = rows("operations.md") | rows("docker.md")
    prose = named([ROOT / "docs" / page for page in ("docker.md", "operations.md")])  # where a cluster is explained
    assert named(files) <= known | prose
