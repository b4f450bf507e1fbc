"""What differs between two groups: one table has the effect of every key of group.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from docs.schema.generate import group_schema

from hams_shared.group import difference as module
from hams_shared.group.difference import EFFECTS, Change, Effect, difference, effect_of
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire.messages.group import GroupRecord
from support.build import group_record, model_ref

NET = {"size": [64, 64]}
BASE: dict[str, Any] = {
    "name": "yard",
    "nodes": {
        "det": {"model": "pypi:m==1/det.xml", "input": NET, "task": {"type": "yolo", "labels": ["person"]}},
        "age": {"model": "pypi:m==1/age.xml", "input": NET, "task": {"type": "embedding"}, "parent": "det"},
    },
    "streams": {"gate": {"source": "rtsp://cam/1"}, "file": {"source": "/v.mp4", "mode": "lossless"}},
}
WHOLE = frozenset({
    "task", "gate", "tiles", "input", "inputs", "crop", "decode", "zones", "lines", "rules", "dwell_s", "track",
    "cadence", "results",
})  # fmt: skip
"""Keys that have one effect with all that is in them."""


def changed(path: str, value: Any, base: dict[str, Any] = BASE) -> GroupRecord:
    """`base` with another value at `path`; None: without it."""

    def put(data: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        key, *rest = keys
        if rest:
            return {**data, key: put(data.get(key, {}), rest)}
        return {**{k: v for k, v in data.items() if k != key}, **({} if value is None else {key: value})}

    return group_record(parse_group(put(base, path.split("."))))


def keys_of(schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All keys that the JSON Schema of a group file allows, with ``*`` for names."""
    if "$ref" in schema:
        yield from keys_of(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions, path)
        return
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from keys_of(one, definitions, path)
    for key, value in schema.get("properties", {}).items():
        yield (*path, key)
        yield from keys_of(value, definitions, (*path, key))
    named = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for one in named:
        if isinstance(one, dict):
            yield from keys_of(one, definitions, (*path, "*"))


def schema_keys() -> set[tuple[str, ...]]:
    schema = group_schema()
    definitions = {**schema["$defs"], "NodeSpec": schema["$defs"]["Node"]}
    return set(keys_of(definitions["Group"], definitions, ()))


def test_every_key_of_the_schema_is_in_the_table() -> None:
    keys = schema_keys()
    assert ("streams", "*", "gate", "min_fps") in keys
    assert ("nodes", "*", "task", "threshold") in keys
    containers = {("nodes",), ("streams",), ("events",)}  # their parts have effects of their own
    missing = [key for key in keys - containers if not has_an_effect(key)]
    assert missing == []


def has_an_effect(key: tuple[str, ...]) -> bool:
    """Whether `key` has an entry of its own, or is in a part that has one effect as a whole."""
    above = [key[:length] for length in range(1, len(key)) if key[length - 1] in WHOLE]
    return any(".".join(one) in EFFECTS for one in (key, *above))


def test_every_entry_of_the_table_is_a_key_of_the_schema() -> None:
    keys = {".".join(key[:n]) for key in schema_keys() for n in range(len(key) + 1)} | {"models.*"}
    assert EFFECTS.keys() - keys == set()


@pytest.mark.parametrize(
    ("path", "value", "effect"),
    [
        ("nodes.det.task.threshold", 0.6, Effect.DECODE),
        ("nodes.det.task.labels", ["person", "bike"], Effect.DECODE),
        ("nodes.det.task.type", "obb", Effect.LOAD),
        ("nodes.age.task.gallery", {"threshold": 0.7}, Effect.FRAMES),
        ("nodes.age.crop.enlarge", 1.5, Effect.DECODE),
        ("nodes.age.input.pad", 7, Effect.LOAD),
        ("nodes.det.model", "pypi:m==2/det.xml", Effect.NONE),
        ("nodes.det.track", {}, Effect.GRAPH),
        ("nodes.age.pin", ["a.b.c"], Effect.PLAN),
        ("nodes.age", None, Effect.GRAPH),
        ("streams.gate.gate", {"area": 0.01}, Effect.FRAMES),
        ("streams.gate.zones", {"door": [[0, 0], [1, 0], [1, 1]]}, Effect.FRAMES),
        ("streams.gate.mask", [[[0, 0], [1, 0], [1, 1]]], Effect.GRAPH),  # the pipeline sends the crops now
        ("streams.gate.paused", True, Effect.FRAMES),
        ("streams.gate.source", "rtsp://cam/2", Effect.STREAM),
        ("streams.gate", None, Effect.STREAM),
        ("streams.new", {"source": "push"}, Effect.STREAM),
        ("target_fps", 10, Effect.PLAN),
        ("priority", 3, Effect.PLAN),
        ("deadline_s", 3, Effect.FRAMES),
        ("events.rules", {"loiter": {"min_age_s": 3}}, Effect.FRAMES),
    ],
)
def test_a_change_has_the_effect_of_its_key(path: str, value: Any, effect: Effect) -> None:
    base = {**BASE, "nodes": {**BASE["nodes"], "age": {**BASE["nodes"]["age"], "input": {**NET, "fit": "letterbox"}}}}
    if path.startswith("events."):
        base["nodes"]["det"] = {**base["nodes"]["det"], "track": {}}
    found = difference(group_record(parse_group(base)), changed(path, value, base))
    assert [one.effect for one in found.changes if one.path.startswith(path)] != []
    assert found.strongest is effect


def test_nothing_differs_in_the_same_group_deployed_again() -> None:
    record = changed("priority", 1)
    again = record.model_copy(update={"version": 7, "deployed_at": 99.0, "by": "someone"})
    assert not difference(record, again)
    assert difference(record, again).strongest is Effect.NONE


def test_the_order_of_streams_and_nodes_does_not_matter() -> None:
    turned = {**BASE, **{key: dict(reversed(BASE[key].items())) for key in ("nodes", "streams")}}
    one, other = (group_record(parse_group(data)) for data in (BASE, turned))
    assert not difference(one, other)
    new = {**turned, "streams": {**turned["streams"], "b": {"source": "push"}, "a": {"source": "push"}}}
    assert [c.path for c in difference(one, group_record(parse_group(new))).changes] == ["streams.a", "streams.b"]


def test_another_content_of_the_same_source_is_loaded() -> None:
    old = changed("priority", 1)
    new = old.model_copy(update={"models": {**old.models, "det": model_ref("retrained")}})
    found = difference(old, new)
    change = Change(("models", "det"), old.models["det"].digest, model_ref("retrained").digest, Effect.LOAD)
    assert found.changes == (change,)
    assert found.nodes(Effect.LOAD) == {"det"}


def test_of_a_group_that_does_not_run_yet_only_what_it_has_is_shown() -> None:
    found = difference(None, changed("priority", 1))
    assert [one.path for one in found.changes] == ["priority", "nodes.age", "nodes.det", "streams.file", "streams.gate"]
    assert found.streams(Effect.STREAM) == {"file", "gate"}


def test_cadences_and_conditions_are_wiring_only_where_they_change_who_sends_the_crops() -> None:
    tracked = {**BASE, "nodes": {**BASE["nodes"], "det": {**BASE["nodes"]["det"], "track": {}}}}
    often, seldom = (changed("nodes.det.cadence", n, tracked) for n in (2, 3))
    assert difference(often, seldom).strongest is Effect.FRAMES
    every, other = (changed("nodes.age.cadence", n, tracked) for n in (3, 5))
    assert difference(every, other).strongest is Effect.FRAMES
    two = {**BASE, "nodes": {**BASE["nodes"], "eyes": {**BASE["nodes"]["age"], "parent": "age"}}}
    two["nodes"]["age"] = {**two["nodes"]["age"], "task": {"type": "yolo"}}
    conditions = [changed("nodes.eyes.when", text, two) for text in (None, "score > 0.5", "score > 0.6")]
    assert difference(*conditions[:2]).strongest is Effect.GRAPH
    assert difference(*conditions[1:]).strongest is Effect.FRAMES
    views = {**BASE, "streams": {**BASE["streams"], "roi": {"source": "push", "roi": [0, 0, 0.5, 0.5]}}}
    assert difference(
        group_record(parse_group(views)), changed("streams.gate.roi", [0, 0, 1, 0.5], views)
    ).strongest is (Effect.FRAMES)


def test_true_is_not_one() -> None:
    old, new = (changed("nodes.age.inputs", {"s": {"value": v}}) for v in (1, 2))
    assert difference(old, new).strongest is Effect.LOAD
    a, b = changed("nodes.det.task.only", 1), changed("nodes.det.task.only", True)
    assert [(one.old, one.new) for one in difference(a, b).changes] == [(1, True)]


def test_a_map_that_comes_has_the_strongest_effect_of_what_is_in_it() -> None:
    assert effect_of(("nodes", "det", "track"), None, {"low_score": 0.1, "motion": "flow"}) is Effect.DECODE
    assert effect_of(("nodes", "det", "track", "motion"), "boxes", "flow") is Effect.FRAMES


def test_an_unknown_key_is_a_fault_of_the_table() -> None:
    with pytest.raises(KeyError, match="table of effects"):
        effect_of(("nonsense",), 1, 2)


def test_the_module_knows_the_defaults_of_a_group() -> None:
    bare = GroupSpec.model_validate({"name": "g", "nodes": {"d": BASE["nodes"]["det"]}}).model_dump(mode="json")
    assert module._nothing("g") == {**bare, "nodes": {}}
