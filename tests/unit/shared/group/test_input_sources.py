"""What a group file may say of a network's further inputs."""

from __future__ import annotations

from typing import Any

import pytest

from hams_shared.errors import GroupSpecError
from hams_shared.group.input_sources import FACTS, NUMBERS, InputSource, suggestion
from hams_shared.group.spec import GroupSpec, group_of, parse_group


def group(inputs: dict[str, Any], on: str = "child", **changes: Any) -> GroupSpec:
    nodes: dict[str, dict[str, Any]] = {
        "det": {"model": "/d.onnx", "input": {"size": [64, 64]}, "task": {"type": "raw"}},
        "child": {"model": "/c.onnx", "parent": "det", "input": {"size": [32, 32]}, "task": {"type": "raw"}, **changes},
    }
    nodes[on]["inputs"] = inputs
    return parse_group({"name": "g", "nodes": nodes})


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_is_its_name(fact: str) -> None:
    source = group({"x": fact}).nodes["child"].inputs["x"]
    assert source == InputSource(fact=fact)  # type: ignore[arg-type]
    assert source.text == fact


def test_what_is_written_is_what_is_read_back() -> None:
    spec = group({
        "a": "size_wh", "b": {"value": [[1, 2], [3, 4]]}, "c": {"value": 0, "shape": [2, 3]},
        "d": {"parent": "points", "pixels": "unit"}, "e": {"output": "f"}, "f": {"parent": "pose"},
    })  # fmt: skip
    assert GroupSpec.model_validate(spec.model_dump(mode="json")) == spec
    sources = spec.nodes["child"].inputs
    assert sources["b"].numbers == (1, 2, 3, 4)
    assert sources["b"].value_shape == (2, 2)
    assert sources["c"].numbers == (0,)
    assert sources["c"].value_shape == (2, 3)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("size", "must be one of image, size_wh"),
        (3, "a constant is written {value: …}"),
        ([1], "a constant is written {value: …}"),
        ({}, "give one of a fact, value, parent, output; found none"),
        ({"value": 1, "output": "x"}, "found value, output"),
        ({"value": "one"}, "must be a number or a list of numbers"),
        ({"value": True}, "must be a number or a list of numbers, not True"),
        ({"value": [[1, 2], [3]]}, "lists of one length"),
        ({"value": []}, "must be a list of numbers"),
        ({"value": float("nan")}, "must be a finite number"),
        ({"value": [1], "shape": [2]}, "shape goes with a value that is one number"),
        ({"value": 1, "shape": [1 << 12, 1 << 12]}, "at most 1048576 numbers"),
        ({"parent": "score", "pixels": "unit"}, "pixels goes with parent: box and parent: points"),
        ({"parent": "box", "pixels": "feet"}, "must be 'input', 'unit' or 'frame'"),
        ({"parnet": "box"}, "unknown key"),
    ],
)
def test_what_is_none(source: Any, text: str) -> None:
    with pytest.raises(GroupSpecError, match=r"nodes\.child\.inputs\.x.*") as error:
        group({"x": source})
    assert text in str(error.value)


def test_the_root_has_no_parent() -> None:
    with pytest.raises(GroupSpecError, match=r"nodes.det.inputs.x: parent: box: this node has no parent"):
        group({"x": {"parent": "box"}}, on="det")


def test_one_input_takes_the_image() -> None:
    with pytest.raises(GroupSpecError, match="one input takes the image"):
        group({"x": "image", "y": "image"})


def test_objects_that_the_pipeline_chooses_have_no_more_than_their_box_points_and_score() -> None:
    kept = {"x": {"parent": "box"}, "y": {"parent": "points"}, "z": {"parent": "score"}}
    group(kept, when="score > 0.5")
    for source in ({"output": "f"}, {"parent": "pose"}):
        group({"x": source})
        with pytest.raises(GroupSpecError, match="only these go to a child: box, points, score"):
            group({"x": source}, when="score > 0.5")


def test_an_error_has_its_line() -> None:
    text = """name: g
nodes:
  det:
    model: /d.onnx
    input: {size: [64, 64]}
    inputs:
      sizes: size_hv
    task: {type: raw}
"""
    with pytest.raises(GroupSpecError) as error:
        group_of(text, "g.yaml", lambda name: pytest.fail(name))  # type: ignore[arg-type,return-value]
    (finding,) = error.value.findings
    assert (finding.line, finding.path) == (7, "nodes.det.inputs.sizes")


@pytest.mark.parametrize(
    ("name", "child", "text"),
    [
        ("orig_target_sizes", False, "orig_target_sizes: input_wh"),
        ("scale_factor", True, "scale_factor: scale_hw"),
        ("point_coords", True, "point_coords: {parent: points}"),
        ("point_coords", False, f"point_coords: one of {', '.join(NUMBERS)}, {{value: …}}"),
        ("anything", True, "{parent: box}, {parent: points}, {output: NAME}"),
    ],
)
def test_suggestions(name: str, child: bool, text: str) -> None:
    assert text in suggestion(name, child)
