"""The task describe: texts of a vision language model, cleaned and cut; and what it implies for its node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_agents.question import Question
from hams_agents.tasks.describe import shortened
from hams_agents.tasks.registry import build_task, gives_objects, is_detection
from hams_shared.errors import GroupSpecError, TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.group.work_rules import CadenceSpec
from support.build import group_spec

PICTURE = InputSpec(size=(64, 64), color="rgb", layout="nhwc", dtype="u8")
HERE = [np.eye(2, 3)]


def described(text: str | bytes, whole: bool = True, **params: Any) -> dict[str, Any]:
    task = build_task(TaskSpec(type="describe", **params), PICTURE)
    raw = (text.encode() if isinstance(text, str) else text) + b"\0\0"
    outputs = {"text": np.frombuffer(raw, np.uint8)[None], "whole": np.array([whole], np.uint8)}
    (item,) = task.describe(outputs, HERE)  # type: ignore[union-attr]
    return item


def test_a_text_is_given_as_it_is() -> None:
    assert described("A man in a café.") == {"text": "A man in a café."}
    assert described("") == {"text": ""}


def test_line_ends_and_hidden_characters_become_spaces() -> None:
    assert described(" A\n\nman\x1b[2J \u202ewith\u200b a\that ") == {"text": "A man [2J with a hat"}


def test_half_a_character_is_left_out() -> None:
    assert described(b"caf" + "é".encode()[:1], whole=False)["text"] == "caf…"


@pytest.mark.parametrize(
    ("text", "most", "is_"),
    [
        ("A man in a red jacket stands beside a car. He is", 300, "A man in a red jacket stands beside a car."),
        ("Yes. A man in a red jacket stands beside a", 300, "Yes. A man in a red jacket stands beside…"),
        ("Costs 1.50 euros or", 300, "Costs 1.50 euros…"),
        ("one two three four", 12, "one two…"),
        ("wordwithoutend", 8, "wordwit…"),
    ],
)
def test_what_has_no_end_is_cut_off_where_a_reader_expects_it(text: str, most: int, is_: str) -> None:
    assert described(text, whole=False, max_length=most) == {"text": is_, "cut": True}
    assert len(shortened(text, most)) <= most


def test_a_text_that_is_too_long_is_cut_off_though_it_has_an_end() -> None:
    assert described("one two three four.", max_length=12) == {"text": "one two…", "cut": True}


def test_the_network_is_asked_its_question() -> None:
    task = build_task(TaskSpec(type="describe", prompt="Why?", max_tokens=7, temperature=0.5, max_s=3.0), PICTURE)
    assert task.question == Question("Why?", 7, 0.5, 3.0)  # type: ignore[union-attr]
    assert not is_detection(task)
    assert not gives_objects(task)


def test_other_networks_write_no_text() -> None:
    task = build_task(TaskSpec(type="describe"), PICTURE)
    with pytest.raises(TaskError, match="writes no text"):
        task.describe({"out": np.zeros((1, 3), np.float32)}, HERE)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "params", [{"prompt": ""}, {"max_tokens": 0}, {"max_s": 60}, {"temperature": -1}, {"lines": 3}]
)
def test_wrong_parameters(params: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="task describe: "):
        build_task(TaskSpec(type="describe", **params), PICTURE)


def test_other_inputs_are_refused() -> None:
    with pytest.raises(TaskError, match="takes pictures of R, G, B bytes"):
        build_task(TaskSpec(type="describe"), InputSpec(size=(64, 64)))


# ── what it implies for its node ──────────────────────────────────────────────────────────────────────────────────────


def group(track: bool = True, **age: Any) -> GroupSpec:
    spec = group_spec().model_dump(mode="json", exclude_unset=True)
    if track:
        spec["nodes"]["det"]["track"] = {}
    spec["nodes"]["age"] |= {"task": {"type": "describe"}, **age}
    return parse_group(spec)


def test_it_runs_once_per_track_within_a_budget() -> None:
    node = group().nodes["age"]
    assert node.cadence == CadenceSpec(track=True)
    assert node.budget == 0.25
    assert (node.input.color, node.input.layout, node.input.dtype) == ("rgb", "nhwc", "u8")
    assert node.variants is False
    assert group().slow == {"age"}
    assert GroupSpec.model_validate(group().model_dump(mode="json")) == group()


def test_the_group_file_may_say_otherwise() -> None:
    node = group(cadence={"seconds": 30}, budget=0.5).nodes["age"]
    assert (node.cadence, node.budget) == (CadenceSpec(seconds=30), 0.5)


def test_it_needs_a_parent_with_track() -> None:
    with pytest.raises(GroupSpecError, match="needs a parent with track"):
        group(track=False)
    with pytest.raises(GroupSpecError, match="the task describe needs one"):
        group(budget=None)
