"""What is wrong in a group file is said in the words of the file, not of Python."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from hams_scheduler.solver.strategies.registry import names
from hams_shared.errors import GroupSpecError
from hams_shared.group.spec import StrategyName, parse_group


def test_strategies_are_those_of_the_scheduler() -> None:
    assert names() == get_args(StrategyName)


@pytest.mark.parametrize(
    ("group", "node", "wrong"),
    [
        ({"name": "Bad Name"}, {}, "name: must be lower case letters, digits, - and _, a letter first, 48 at most"),
        ({"strategy": "hsf"}, {}, "strategy: must be 'default', 'round-robin', 'fastest', 'mfs', 'hfs', "),
        ({"target_fps": "x"}, {}, "target_fps: must be a valid number"),
        ({"nodes": [1]}, {}, "nodes: must be a map"),
        ({}, {"sha256": "abc"}, "nodes.t.sha256: must be 64 hexadecimal digits, in lower case"),
        ({}, {"input": {"size": 64}}, "nodes.t.input.size: must be a list"),
        ({}, {"pin": "cpu"}, "nodes.t.pin: must be a list"),
        ({}, {"task": "raw"}, "nodes.t.task: must be a map"),
        ({}, {"thresold": 1}, "nodes.t.thresold: unknown key"),
        ({}, {"variants": "perhaps"}, "nodes.t.variants: must be a valid boolean; nodes.t.variants: must be a list"),
    ],
)
def test_what_a_value_must_be(group: dict[str, Any], node: dict[str, Any], wrong: str) -> None:
    whole = {"model": "m.onnx", "input": {"size": [64, 32]}, "task": {"type": "raw"}, **node}
    with pytest.raises(GroupSpecError) as caught:
        parse_group({"name": "g", "nodes": {"t": whole}, **group}, "g.yaml")
    assert str(caught.value).startswith(f"g.yaml: {wrong}")


@pytest.mark.parametrize(("content", "found"), [(None, "empty"), ([1], "a list"), ("a", "a text")])
def test_a_file_of_something_else(content: object, found: str) -> None:
    with pytest.raises(GroupSpecError, match=f"g.yaml is {found}; a group file is a map"):
        parse_group(content, "g.yaml")
