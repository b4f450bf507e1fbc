"""docs/conditions.md describes the language as it is: its examples, its names, its tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hams_shared.group.condition_text import MAX_DEPTH, MAX_LENGTH, MAX_TOKENS, ConditionError
from hams_shared.group.conditions import check, object_values
from hams_shared.group.spec import GroupSpec, parse_group

PAGE = (Path(__file__).parents[3] / "docs" / "conditions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TRUTH = {"true": True, "false": False, "unknown": None}


def example() -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load(BLOCKS[0])
    return whole


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    section = re.split(r"^#+ ", PAGE.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.fixture(scope="module")
def group() -> GroupSpec:
    return parse_group(example())


def test_the_examples_are_group_files() -> None:
    whole = example()
    whole["nodes"] |= yaml.safe_load(BLOCKS[1])
    assert {name for name, node in parse_group(whole).nodes.items() if node.when} == {"gender", "bag", "near", "far"}


def test_each_name_of_an_object_is_in_the_table(group: GroupSpec) -> None:
    found = {"box": [0, 0, 1, 1], "score": 1, "label": "x", "track": 1, "age_s": 1, "velocity": [0, 0], "zones": []}
    values = object_values(found, (4, 3))
    named = {row[0].strip("`"): row[1] for row in rows("Names")}
    assert named.keys() - {"a node"} == values.keys()
    for name, value in values.items():
        for field in value if isinstance(value, dict) else ():
            assert f"`{field}`" in named[name]
            check(f"{name}.{field} > 0", group.nodes, "gender")


def test_the_forms_are_in_the_language(group: GroupSpec) -> None:
    forms = " ".join(row[1] for row in rows("Grammar"))
    for text in re.findall(r"`([^`]* in [^`]*|[^`]*<[^`]*<[^`]*)`", forms):
        check(text.replace("sign.", "bag."), group.nodes, "gender", ["gate"])
    for function in re.findall(r"`(\w+)\(", forms):
        check(
            f"{function}({'label' if function == 'len' else '1' if function == 'abs' else '1, 2'}) > 0",
            group.nodes,
            "bag",
        )
    for bound in (MAX_LENGTH, MAX_TOKENS, MAX_DEPTH):
        assert f" {bound} " in PAGE


def test_the_table_of_unknown_values(group: GroupSpec) -> None:
    for a, b, *results in rows("Unknown values"):
        values = {"gender": {"a": TRUTH[a], "b": TRUTH[b]}}
        for text, result in zip(
            ("gender.a and gender.b", "gender.a or gender.b", "not gender.a"), results, strict=True
        ):
            assert check(text, group.nodes, "bag").value(values) is TRUTH[result]


@pytest.mark.parametrize("row", rows("Mistakes"), ids=lambda row: row[0])
def test_the_answers_to_mistakes(group: GroupSpec, row: list[str]) -> None:
    with pytest.raises(ConditionError) as caught:
        check(row[0].strip("`"), group.nodes, "bag", ["gate"])
    assert caught.value.message == row[1]
