from __future__ import annotations

from typing import Any

import pytest

from hams_services.pipeline.join import Join
from hams_shared.errors import MessageError
from hams_shared.group.spec import parse_group
from hams_shared.wire.frames import FrameId
from support.build import group_spec, output

ID = FrameId("face", "cam", 0, 0, 1, 0.0)


def box(score: float) -> dict[str, Any]:
    return {"box": [0, 0, 1, 1], "score": score, "label": "x"}


def test_complete_only_when_all_nodes_answered_in_any_order() -> None:
    join = Join(group_spec())
    assert not join.add(output(ID, "age", [{"value": 1}], [0]))
    assert not join.add(output(ID, "age", [{"value": 2}], [0]))  # sent twice: the first counts
    assert join.add(output(ID, "det", [[box(0.9)]], [0]))
    assert join.objects() == [{**box(0.9), "age": {"value": 1}}]


def test_no_objects_and_no_crops_is_a_complete_empty_result() -> None:
    join = Join(group_spec())
    join.add(output(ID, "det", [[]], [0]))
    assert join.add(output(ID, "age", [], []))
    assert join.objects() == []


def test_children_that_saw_only_some_objects() -> None:
    join = Join(group_spec())
    join.add(output(ID, "det", [[box(0.9), box(0.8)]], [0]))
    join.add(output(ID, "age", [{"value": 7}], [1]))
    assert join.objects() == [box(0.9), {**box(0.8), "age": {"value": 7}}]


def test_three_levels() -> None:
    node = {"model": "/m.onnx", "input": {"size": [32, 32]}, "task": {"type": "raw"}}
    spec = parse_group(
        {"name": "v", "nodes": {"car": node, "plate": {**node, "parent": "car"}, "text": {**node, "parent": "plate"}}}
    )
    join = Join(spec)
    join.add(output(ID, "car", [[box(0.9), box(0.8), box(0.7)]], [0]))
    # crops of cars 0 and 2 were looked at; the second holds two plates
    join.add(output(ID, "plate", [[box(0.5)], [box(0.4), box(0.3)]], [0, 2]))
    assert join.add(output(ID, "text", [{"text": "A"}, {"text": "B"}, {"text": "C"}], [0, 1, 2]))
    first, second, third = join.objects()
    assert first["plate"]["objects"] == [{**box(0.5), "text": {"text": "A"}}]
    assert "plate" not in second
    assert [p["text"]["text"] for p in third["plate"]["objects"]] == ["B", "C"]


def test_a_group_of_one_describing_node() -> None:
    join = Join(group_spec(nodes=("scene",)))
    assert join.add(output(ID, "scene", [{"label": "street"}], [0]))
    assert join.objects() == [{"scene": {"label": "street"}}]


def test_a_child_that_speaks_of_an_object_that_is_not_there() -> None:
    join = Join(group_spec())
    join.add(output(ID, "det", [[box(0.9)]], [0]))
    join.add(output(ID, "age", [{"value": 7}], [3]))
    with pytest.raises(MessageError, match="object 3"):
        join.objects()


def test_parts_of_what_a_node_described() -> None:
    """face → landmarks (describes, with parts) → iris, each at its own eye of its own face."""
    node = {"model": "/m.onnx", "input": {"size": [32, 32]}, "task": {"type": "raw"}}
    spec = parse_group(
        {"name": "f", "nodes": {"face": node, "mesh": {**node, "parent": "face"}, "iris": {**node, "parent": "mesh"}}}
    )
    join = Join(spec)
    join.add(output(ID, "iris", [{"points": [n]} for n in range(3)], [0, 1, 2]))
    join.add(output(ID, "face", [[box(0.9), box(0.8), box(0.7)]], [0]))
    eyes = [{"box": [0, 0, 1, 1], "label": side} for side in ("left", "right")]
    # no crop of the second face; the third one's left eye only
    assert join.add(
        output(ID, "mesh", [{"points": [], "objects": [dict(e) for e in eyes]}, {"objects": [dict(eyes[0])]}], [0, 2])
    )
    first, second, third = join.objects()
    assert [(eye["label"], eye["iris"]["points"]) for eye in first["mesh"]["objects"]] == [
        ("left", [0]),
        ("right", [1]),
    ]
    assert "mesh" not in second
    assert [eye["iris"]["points"] for eye in third["mesh"]["objects"]] == [[2]]


def test_a_root_that_describes_may_have_parts_too() -> None:
    join = Join(group_spec(nodes=("mesh", "iris")))
    join.add(output(ID, "mesh", [{"points": [[1, 2]], "objects": [box(0.9), box(0.8)]}], [0]))
    join.add(output(ID, "iris", [{"value": 5}], [1]))
    assert join.objects() == [{"mesh": {"points": [[1, 2]], "objects": [box(0.9), {**box(0.8), "iris": {"value": 5}}]}}]
