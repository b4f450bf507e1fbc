"""Tables of the documents hold what the code has, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from hams_agents.tasks.registry import BUILT_IN
from hams_scheduler.offline import answers, read
from hams_scheduler.solver.strategies.registry import names
from hams_services.models.manifest import zoo
from hams_services.monitor.exporter import HamsCollector
from hams_shared import errors
from hams_shared.group.node_spec import CropSpec, InputSpec, NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.group.stream_spec import DecodeSpec, StreamSpec
from support.snapshots import system

ROOT = Path(__file__).parents[3]


def section(page: str, title: str) -> str:
    """What stands under a heading of a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title!r}"
    return found[1]


def first_cells(text: str) -> set[str]:
    """All that stands in backquotes in the first cell of a table's rows."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("title", "model"),
    [("`input`", InputSpec), ("`crop`", CropSpec), ("`streams`", StreamSpec), ("`decode`", DecodeSpec)],
    ids=str,
)
def test_keys_of_a_group_file(title: str, model: type[BaseModel]) -> None:
    assert first_cells(section("group-yaml.md", title)) == set(model.model_fields)


def test_the_example_of_a_group_file_shows_all_keys() -> None:
    example = section("group-yaml.md", "Group file")
    keys = set(re.findall(r"^ *(\w+):", example, re.MULTILINE))
    assert keys >= set(GroupSpec.model_fields) | set(NodeSpec.model_fields) - {"sha384"}
    assert "sha384" in example


def test_tasks_and_strategies() -> None:
    assert first_cells(section("group-yaml.md", "`task`")) == set(BUILT_IN)
    assert first_cells(section("scheduling.md", "Strategies")) == set(names())


def test_the_first_answer_of_the_page_on_scheduling_is_what_is_computed() -> None:
    shown = dict(re.findall(r"^(\w[\w-]*) +(\d+\.\d{3})[ *]", section("scheduling.md", "Scheduling"), re.MULTILINE))
    found = answers(read(ROOT / "examples" / "instances" / "slides-service-f.json"), ("all",), 1.0)
    assert {one["strategy"]: f"{one['fps']:.3f}" for one in found} == shown


def test_metrics() -> None:
    collector = HamsCollector()
    collector.show(system(), float("inf"))
    ends = {"counter": "_total", "info": "_info"}
    counted = {f"{one.name}{ends.get(one.type, '')}" for one in collector.collect()}
    assert first_cells(section("monitoring.md", "Metrics")) == counted


def test_networks_of_the_zoo() -> None:
    rows = [line.split("|")[1:-1] for line in section("models.md", "What is in it").splitlines() if "| `" in line]
    shown = {
        name: (service.strip(), licence.strip())
        for service, cell, _, _, licence in rows
        for name in re.findall(r"`(.+?)`", cell)
    }
    assert shown == {name: (one.service, one.licence) for name, one in zoo().items()}


def test_exit_codes() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    shown = re.search(r"^Exit codes: (.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    assert shown
    told = {int(code) for code in re.findall(r"(?:^|[,\n] ?)(\d+) ", shown[1])} - {0, 1, 130}
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.HamsError)]
    assert told == {one.exit_code for one in kinds} - {errors.HamsError.exit_code}
