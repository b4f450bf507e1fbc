"""Single keys of a group, as `hams-ctl set` changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hams_shared.errors import GroupSpecError
from hams_shared.group.edit import NOTHING, added, assignment, edited, paused, removed
from hams_shared.group.spec import parse_group
from support.build import group_spec

DATA: dict[str, Any] = {
    "name": "g",
    "nodes": {
        "det": {"task": {"type": "yolo", "labels": ["a", "b"]}, "inputs": {"in.1": {"fact": "pad"}}, "track": None}
    },
    "streams": {"gate": {"source": "push", "mask": [[[0, 0], [1, 0], [1, 1]]]}},
}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a.b=0.6", "a.b", 0.6),
        ("a=yes", "a", True),
        ("a=[1, 2]", "a", [1, 2]),
        ("a={x: 1}", "a", {"x": 1}),
        ("a=", "a", None),
        ("a=null", "a", None),
        ("a=rtsp://u:p@h/?x=1", "a", "rtsp://u:p@h/?x=1"),
    ],
)
def test_values_are_yaml(text: str, key: str, value: Any) -> None:
    assert assignment(text) == (key, value)


@pytest.mark.parametrize("text", ["a", "=1", " =1", "a=[1", "a={x: 1, x: 2}", "a=!tag x"])
def test_what_is_no_assignment_is_named(text: str) -> None:
    with pytest.raises(GroupSpecError):
        assignment(text)


@pytest.mark.parametrize(
    ("path", "value", "at", "found"),
    [
        ("nodes.det.task.threshold", 0.6, ("nodes", "det", "task", "threshold"), 0.6),
        ("nodes.det.task.labels.b", "c", ("nodes", "det", "task", "labels"), ["a", "c"]),
        ("nodes.det.task.labels.0", "c", ("nodes", "det", "task", "labels"), ["c", "b"]),
        ("nodes.det.task.labels.2", "c", ("nodes", "det", "task", "labels"), ["a", "b", "c"]),
        ("nodes.det.task.labels.a", NOTHING, ("nodes", "det", "task", "labels"), ["b"]),
        ("nodes.det.task.labels", NOTHING, ("nodes", "det", "task"), {"type": "yolo"}),
        ("nodes.det.inputs.in.1.fact", "box", ("nodes", "det", "inputs"), {"in.1": {"fact": "box"}}),
        ("nodes.det.track.low_score", 0.2, ("nodes", "det", "track"), {"low_score": 0.2}),
        ("streams.gate.gate.area", 0.1, ("streams", "gate", "gate"), {"area": 0.1}),
        ("streams.gate.mask.0.1.0", 0.5, ("streams", "gate", "mask"), [[[0, 0], [0.5, 0], [1, 1]]]),
        ("priority", 3, ("priority",), 3),
    ],
)  # fmt: skip
def test_keys_are_set_and_taken_away(path: str, value: Any, at: tuple[str, ...], found: Any) -> None:
    new: Any = edited(DATA, path, value)
    for key in at:
        new = new[key]
    assert new == found


def test_the_data_stays_as_it_was() -> None:
    before = repr(DATA)
    edited(DATA, "nodes.det.task.labels.0", "z")
    paused(removed({**DATA, "streams": {"a": {}, "b": {}}}, "b"), "a", True)
    assert repr(DATA) == before


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("nodes.det.task.type.x", 1, "nodes.det.task.type is a plain value, which has no keys"),
        ("nodes.det.task.labels.x", "c", "labels has no entry x .entries: 0 to 1; 2 adds one"),
        ("nodes.det.task.labels.3", "c", "labels has no entry 3"),
        ("nodes.det.task.labels.2", NOTHING, "labels has no entry 2"),
        ("nodes.dett.pin", NOTHING, "nodes.dett is not set .did you mean det"),
        ("nodes.det.track", NOTHING, "nodes.det.track is not set"),
        ("nodes..det", 1, "not a key"),
        ("", 1, "not a key"),
    ],
)
def test_paths_that_lead_nowhere_are_named(path: str, value: Any, text: str) -> None:
    with pytest.raises(GroupSpecError, match=text):
        edited(DATA, path, value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: edited({"streams": {"cam": {"source": "rtsp://u:geheim@h/1"}}}, "streams.cam.source.x", 1),
        lambda: assignment("streams.cam.rtsp://u:geheim@h/1"),
        lambda: assignment("streams.cam.rtsp://u:geheim@h/1?x=1"),
        lambda: assignment("=rtsp://h/1?token=geheim"),
        lambda: assignment("rtsp://u:geheim@h/1"),
        lambda: assignment('streams.cam.source="rtsp://u:geheim@h/1'),
    ],
)
def test_errors_show_no_secrets_of_addresses(call: Callable[[], Any]) -> None:
    with pytest.raises(GroupSpecError) as caught:
        call()
    assert "geheim" not in str(caught.value)


def test_a_wrong_key_is_named_with_a_suggestion_as_in_a_group_file() -> None:
    data = group_spec().model_dump(mode="json")
    with pytest.raises(GroupSpecError, match=r"group face: nodes.age.max_wait: unknown key .did you mean max_wait_ms"):
        parse_group(edited(data, "nodes.age.max_wait", 3), "group face")
    with pytest.raises(GroupSpecError, match=r"priority: must be less than or equal to 100"):
        parse_group(edited(data, "priority", 300), "group face")


def test_streams_come_go_and_pause() -> None:
    new = added(DATA, "yard", {"source": "push"})
    assert list(new["streams"]) == ["gate", "yard"]
    assert paused(new, "yard", True)["streams"]["yard"] == {"source": "push", "paused": True}
    assert removed(new, "gate")["streams"] == {"yard": {"source": "push"}}
    with pytest.raises(GroupSpecError, match="has a stream gate already"):
        added(DATA, "gate", {})
    with pytest.raises(GroupSpecError, match="has no stream gatr .did you mean gate"):
        removed(DATA, "gatr")
    with pytest.raises(GroupSpecError, match="has no stream x .its streams: gate"):
        paused(DATA, "x", True)
