"""Conditions of group files: which names they have, how mistakes are shown, and what results give them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hams_shared.errors import GroupSpecError
from hams_shared.group.condition_text import ConditionError
from hams_shared.group.conditions import child_condition, object_values, rule_condition, waits_for
from hams_shared.group.node_spec import RESERVED_NODE_NAMES
from hams_shared.group.spec import GroupSpec, load_group, parse_group

NODE = {"model": "m.onnx", "input": {"size": [64, 64]}, "task": {"type": "raw"}}
ZONES = {"gate": [[0, 0], [1, 0], [1, 1]], "yard": [[0, 0], [1, 0], [0, 1]]}
TREE = {"vehicle": None, "color": "vehicle", "plate": "vehicle", "plate-type": "plate", "ocr": "plate", "logo": "ocr"}


def group(tree: dict[str, str | None] | None = None, track: bool = True, **nodes: dict[str, Any]) -> GroupSpec:
    """The group of vehicles, with further keys of its nodes; ``events`` is a key of the group."""
    events = nodes.pop("events", {})
    whole = {
        name: {**NODE, **({"parent": parent} if parent else {"track": {}} if track else {}), **nodes.get(name, {})}
        for name, parent in (tree or TREE).items()
    }
    streams = {"s": {"source": "push", "zones": ZONES}, "t": {"source": "push"}}
    return parse_group({"name": "g", "nodes": whole, "streams": streams, "events": events})


def refused(**nodes: dict[str, Any]) -> str:
    with pytest.raises(GroupSpecError) as caught:
        group(**nodes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("child", "when"),
    [
        ("color", "score > 0.5 and label == 'car' and box.area > 900 and box.cx < frame.width / 2"),
        ("color", "age_s > 1 and velocity.speed > 10 and not predicted and track > 0 and zone == 'gate'"),
        ("color", "'yard' in zones and plate.objects != 3 or vehicle.label == 'truck'"),
        ("plate", "color.label in ['red', 'blue']"),
        ("ocr", "plate_type.label == 'eu' and vehicle.label == 'truck' and vehicle.box.height > 100"),
        ("ocr", "plate.score > 0.5 and age_s > 3"),
        ("logo", "ocr.text == 'X' and plate.score > 0.5 and 'gate' in vehicle.zones"),
    ],
)
def test_what_a_child_may_refer_to(child: str, when: str) -> None:
    spec = group(**{child: {"when": when}})
    assert child_condition(spec.nodes, child) is not None
    assert child_condition(spec.nodes, "vehicle") is None


@pytest.mark.parametrize(
    ("child", "when", "message"),
    [
        (
            "plate",
            "colour.label == 'red'",
            "column 1 of the value: nodes.plate.when: unknown name colour (did you mean",
        ),
        (
            "plate",
            "score > 0 and plate.score > 0",
            "column 15 of the value: nodes.plate.when: plate refers to itself (",
        ),
        ("plate", "ocr.text == 'X'", "nodes.plate.when: ocr runs on what plate finds (a condition is evaluated before"),
        ("plate", "logo.score > 1", "nodes.plate.when: logo runs on what plate finds ("),
        (
            "color",
            "ocr.text == 'X'",
            "ocr is neither a sibling nor an ancestor of color: it runs on what plate finds (there are: plate, ",
        ),
        ("ocr", "vehicle.color.label == 'red'", "column 9 of the value: nodes.ocr.when: color is neither a sibling"),
        ("color", "vehicle.plate.score > 1", "plate is a node, not a field of vehicle (write plate, without vehicle)"),
        ("ocr", "vehicle.zone == 'gate'", "vehicle has no field zone (write zone, or 'NAME' in vehicle.zones)"),
        ("color", "plate.embedding == 1", "embeddings cannot be used in conditions (rules of events know identity"),
        (
            "color",
            "zone == 'gaet'",
            "column 9 of the value: nodes.color.when: 'gaet' is never in zone (did you mean gate",
        ),
        ("color", "plate-type.label == 'eu'", "plate has fields (write plate_type for plate-type: - is minus)"),
        ("vehicle", "score > 1", "nodes.vehicle.when: is for children; for whole frames there is gate of a stream"),
    ],
)
def test_what_it_may_not_refer_to(child: str, when: str, message: str) -> None:
    assert message in refused(**{child: {"when": when}})


def test_all_mistakes_are_told_at_once() -> None:
    text = refused(color={"when": "scor > 1"}, plate={"when": "label = 'x'"}, ocr={"parent": "plat"})
    for said in (
        "nodes.color.when: unknown name scor",
        "nodes.plate.when: = is",
        "nodes.ocr.parent: its parent 'plat'",
    ):
        assert said in text


def test_a_mistake_in_a_message_has_its_place_too() -> None:
    data = group().model_dump(mode="json", exclude_unset=True)
    data["nodes"]["color"]["when"] = "scor > 1"
    with pytest.raises(ValidationError, match=r"nodes\.color\.when: column 1: unknown name scor") as caught:
        GroupSpec.model_validate(data)
    assert "unknown name scor" in caught.value.json()


def test_circles_of_any_length() -> None:
    tree = {"face": None, "a": "face", "b": "face", "c": "face", "d": "face"}
    nodes = {
        "a": {"when": "score > 0 and b.label == 'x'"},
        "b": {"when": "c.label == 'x'"},
        "c": {"when": "a.label == 'x' and d.value > 1"},
        "d": {"when": "score > 0.5"},
    }
    text = refused(tree=tree, **nodes)
    assert "column 15 of the value: nodes.a.when: b waits for a, too: a → b → c → a (leave one" in text
    assert "column 1 of the value: nodes.b.when: c waits for b, too: b → c → a → b" in text
    assert "nodes.d" not in text
    assert "a waits for b, too: b → a → b" in refused(a={"when": "b.x > 1"}, b={"when": "a.x > 1"}, tree=tree)
    chain = group(tree, **{**nodes, "c": {"when": "d.value > 1"}})
    for child, waited in (("a", ("b",)), ("b", ("c",)), ("c", ("d",)), ("d", ())):
        condition = child_condition(chain.nodes, child)
        assert condition is not None
        assert waits_for(condition, chain.nodes, child) == waited


@pytest.mark.parametrize("name", ["age_s", "track", "velocity.x"])
def test_without_a_tracker_nothing_has_an_age(name: str) -> None:
    text = refused(track=False, color={"when": f"{name} > 1"})  # type: ignore[arg-type]
    assert "objects of vehicle are not followed (write track: {} at node vehicle)" in text


def test_zones_are_checked_where_there_are_streams() -> None:
    spec = group()
    assert child_condition(group(color={"when": "zone == 'gate'"}).nodes, "color", ["gate"]) is not None
    nodes = {**spec.nodes, "color": spec.nodes["color"].model_copy(update={"when": "zone == 'cellar'"})}
    assert child_condition(nodes, "color") is not None
    with pytest.raises(ConditionError, match="'cellar' is never in zone"):
        child_condition(nodes, "color", ["gate"])
    parse_group({"name": "g", "nodes": {n: node.model_dump(exclude_unset=True) for n, node in nodes.items()}})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"when": "score > 0.5 and color.label == 'red'", "zones": ["gate"]}, ""),
        ({"when": "scor > 0.5"}, "column 1 of the value: events.rules.r.when: unknown name scor (did you mean score?)"),
        (
            {"when": "ocr.text == 'X'"},
            "events are of objects of vehicle, ocr runs on those of plate (nodes that run on",
        ),
        ({"when": "vehicle.score > 1"}, "events are of objects of vehicle (write score, label … without it)"),
        ({"when": "zone == 'gaet'"}, "'gaet' is never in zone (did you mean gate?)"),
        (
            {"zones": ["gate", "yrad"]},
            "events.rules.r.zones.1: no stream of this group has a zone 'yrad' (did you mean",
        ),
        ({"zones": ["cellar"]}, "no stream of this group has a zone 'cellar' (there are: gate, yard)"),
    ],
)
def test_rules_of_events(rule: dict[str, Any], message: str) -> None:
    events = {"rules": {"r": rule}}
    if message:
        assert message in refused(events=events)
        return
    spec = group(events=events)
    condition = rule_condition(spec.events.rules["r"].when or "", spec.nodes)
    assert condition.names == {"score", "color"}


def test_dwell_times_are_of_zones_and_events_of_tracks() -> None:
    assert "events.dwell_s.gaet: no stream of this group has a zone 'gaet' (did you" in refused(
        events={"dwell_s": {"gate": 3, "gaet": 3}}
    )
    for events in ({"dwell_s": {"gate": 3}}, {"rules": {"r": {}}}):
        text = refused(track=False, events=events)  # type: ignore[arg-type]
        assert f"events.{next(iter(events))}: needs track of node vehicle" in text


FILE = """\
name: g
nodes:
  face: {model: m.onnx, input: {size: [8, 8]}, task: {type: raw}, track: {}}
  age:
    model: m.onnx
    parent: face
    input: {size: [8, 8]}
    task: {type: raw}
    when: %s
streams:
  s: {source: push, zones: {gate: [[0, 0], [1, 0], [1, 1]]}}
events:
  rules:
    late: {when: "scor > 1", zones: [gate, gaet]}
"""


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("scor > 1", "line 9, column 11: "),
        ('"score > 0.5 and scor > 1"', "line 9, column 28: "),
        ("  'scor > 1' # a remark", "line 9, column 14: "),
        ("'scor == ''x'''", "line 9, column 1 of the value: "),
        ("|\n      score > 0 and\n      scor > 1", "line 9, column 15 of the value: "),
        ("score > 0 and\n      scor > 1", "line 9, column 15 of the value: "),
    ],
)
def test_the_file_the_line_and_the_column(tmp_path: Path, written: str, place: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(FILE % written)
    with pytest.raises(GroupSpecError) as caught:
        load_group(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: {place}nodes.age.when: unknown name scor (did you mean score?); line 1")
    line = 14 + written.count("\n")
    assert f"; line {line}, column 19: events.rules.late.when: unknown name scor" in text
    assert f"; line {line}: events.rules.late.zones.1: no stream of this group has a zone 'gaet'" in text


FOUND: dict[str, Any] = {
    "box": [100.0, 50.0, 300.0, 150.0],
    "score": 0.9,
    "label": "truck",
    "track": 7,
    "age_s": 2.5,
    "velocity": [3.0, -4.0],
    "zones": ["yard", "gate"],
    "color": {"label": "red", "score": 0.8},
}
PLATE: dict[str, Any] = {
    "box": [150.0, 100.0, 200.0, 120.0],
    "score": 0.7,
    "label": "plate",
    "plate-type": {"label": "eu"},
}


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("box.x0 == 100 and box.y0 == 50 and box.x1 == 300 and box.y1 == 150", True),
        ("box.width == 200 and box.height == 100 and box.area == 20000 and box.cx == 200 and box.cy == 100", True),
        ("frame.width == 1920 and frame.height == 1080", True),
        ("velocity.x == 3 and velocity.y == -4 and velocity.speed == 5 and vehicle.velocity.speed == 5", True),
        ("track == 7 and age_s > 2 and not predicted", True),
        ("zone == 'gate' and zone == 'yard' and 'gate' in zones and len(zones) == 2", True),
        ("color.label == 'red' and vehicle.label == 'truck' and vehicle.box.width == 200", True),
        ("color.label == 'blue'", False),
    ],
)
def test_values_of_an_object(when: str, expected: bool) -> None:
    spec = group(plate={"when": when})
    condition = child_condition(spec.nodes, "plate", ZONES)
    assert condition is not None
    before = copy.deepcopy(FOUND)
    assert condition.value(object_values(FOUND, (1920, 1080), {"vehicle": FOUND})) is expected
    assert before == FOUND


def test_values_of_an_object_in_a_crop() -> None:
    when = (
        "score == 0.7 and box.width == 50 and vehicle.score == 0.9 and plate.score == 0.7 and plate_type.label == 'eu'"
        " and track == 7 and velocity.speed == 5 and zone == 'gate' and not predicted"
    )
    condition = child_condition(group(ocr={"when": when}).nodes, "ocr")
    assert condition is not None
    assert condition.holds(object_values(PLATE, (1920, 1080), {"vehicle": FOUND, "plate": PLATE}))


def test_an_object_of_which_little_is_known() -> None:
    values = object_values({"box": [0, 0, 1, 1], "score": 0.5, "label": "x"}, (10, 10))
    spec = group(color={"when": "predicted or age_s > 1 or zone == 'gate' or zone != 'gate' or plate.score > 0"})
    condition = child_condition(spec.nodes, "color")
    assert condition is not None
    assert condition.value(values) is None
    assert condition.value({**values, "zone": []}) is True
    assert object_values({"scene": {"label": "fire"}}, (10, 10))["scene"] == {"label": "fire"}


@pytest.mark.parametrize(
    "opposite", ["gender.label != 'female'", "not gender.label == 'female'", "gender.label == 'male'"]
)
def test_a_switch(opposite: str) -> None:
    """One of two children runs where the sibling's output is known, none where it was not run."""
    tree = {"face": None, "gender": "face", "left": "face", "right": "face"}
    nodes = group(tree, left={"when": "gender.label == 'female'"}, right={"when": opposite}).nodes
    ran = []
    for output in ({"gender": {"label": "female"}}, {"gender": {"label": "male"}}, {}):
        values = object_values({"box": [0, 0, 1, 1], "score": 1.0, "label": "face", **output}, (10, 10))
        conditions = {name: child_condition(nodes, name) for name in ("left", "right")}
        ran.append([name for name, condition in conditions.items() if condition and condition.holds(values)])
    assert ran == [["left"], ["right"], []]


def test_no_node_hides_a_name_of_the_object() -> None:
    values = object_values(FOUND, (10, 10))
    assert set(values) - {"color"} <= RESERVED_NODE_NAMES
