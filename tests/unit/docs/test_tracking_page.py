"""docs/tracking.md has all keys with their defaults, and its example is examples/yard.yaml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hams_services.models.groups import load_group
from hams_shared.group.event_rules import EventRule, EventsSpec
from hams_shared.group.regions import GateSpec, Regions, TilesSpec
from hams_shared.group.work_rules import CadenceSpec, TrackSpec
from hams_shared.wire.messages.events import Event

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
YARD = ROOT / "examples" / "yard.yaml"

TABLES: list[tuple[str, int, type[BaseModel]]] = [
    ("Tracks", 0, TrackSpec),
    ("Cadence", 0, CadenceSpec),
    ("Gate", 0, GateSpec),
    ("Regions", 0, Regions),
    ("Regions", 1, TilesSpec),
    ("Events", 1, EventsSpec),
    ("Events", 2, EventRule),
]
"""Heading, which of its tables, and whose keys it has."""


def table(title: str, number: int) -> dict[str, str]:
    """The second cell of each row, by the first."""
    part = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert part, f"there is no heading {title}"
    found = re.findall(r"^\|---.*\n((?:\|.*\n?)+)", part[1], re.MULTILINE)[number]
    cells = [line.split("|")[1:3] for line in found.splitlines()]
    return {first.strip().strip("`"): second.strip() for first, second in cells}


def default(field: FieldInfo) -> Any:
    """A key's default as a group file would have it; a description may end in it: ``… [1]``."""
    written = re.search(r"\[([^]]+)]$", field.description or "")
    value = field.get_default(call_default_factory=True)
    if value is None and written:
        return yaml.safe_load(written[1])
    return list(value) if isinstance(value, tuple) else None if field.is_required() else value


@pytest.mark.parametrize(("title", "number", "model"), TABLES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_tables_have_all_keys_with_their_defaults(title: str, number: int, model: type[BaseModel]) -> None:
    shown = {key: None if text == "–" else yaml.safe_load(text) for key, text in table(title, number).items()}
    assert shown == {name: default(field) for name, field in model.model_fields.items()}


def test_all_kinds_of_events_are_named() -> None:
    kinds = Event.model_fields["kind"].annotation
    named = {name for cell in table("Events", 0) for name in re.findall(r"\w+", cell)}
    assert named == set(kinds.__args__)  # type: ignore[union-attr]


def test_the_example_is_the_file_and_has_at_most_25_lines() -> None:
    blocks = re.findall(r"```(yaml|sh)\n(.*?)```", PAGE.partition("## Example")[2].partition("\n## ")[0], re.DOTALL)
    assert [kind for kind, _ in blocks] == ["yaml", "sh"]
    assert yaml.safe_load(blocks[0][1]) == yaml.safe_load(YARD.read_text())
    assert sum(len(text.splitlines()) for _, text in blocks) <= 25


def test_the_example_of_the_yard_is_a_group() -> None:
    spec = load_group(YARD)
    stream, rule = spec.streams["camera"], spec.events.rules["stays"]
    assert set(rule.zones) <= set(stream.zones)
    assert set(rule.labels) <= set(spec.nodes[spec.root].task.params["labels"].values())
    track, cadence = spec.nodes[spec.root].track, spec.nodes[spec.root].cadence
    assert track is not None
    assert track.motion == "flow"
    assert cadence is not None
    assert cadence.frames == 5
