"""What a parent's device sends for the further inputs of its children."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_agents.runtime.further_values import FurtherValues, with_given
from hams_agents.tasks.base import Detected
from hams_shared.errors import BadInputError
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.wire.frames import FrameId, Work, pack_works, unpack_works
from hams_shared.wire.messages.group import FurtherInput

TAKES = InputSpec(size=(16, 16))
EYES = [
    [Detected((0, 0, 4, 4), 0.9, "left"), Detected((4, 0, 8, 4), 0.8, "right")],
    [Detected((0, 0, 9, 9), 0.7, "left")],
]


def node(**inputs: Any) -> NodeSpec:
    given = {"model": "/m.onnx", "parent": "face", "input": TAKES.model_dump(), "task": {"type": "raw"}}
    return NodeSpec.model_validate({**given, "inputs": inputs})


def work(sources: list[int]) -> Work:
    count = len(sources)
    images, maps = np.zeros((count, 16, 16, 3), np.uint8), np.tile(np.eye(2, 3), (count, 1, 1))
    return Work(FrameId("g", "s", 0, 0, 1, 0.0), "eye", images, maps, sources, (64, 48))


def given(spec: NodeSpec, sources: list[int], **parent: Any) -> dict[str, list[Any]]:
    sent = unpack_works(pack_works([with_given(work(sources), spec, EYES, **parent)]))[0]
    return {name: value.tolist() for name, value in sent.given.items()}


def test_nothing_travels_where_nothing_is_needed() -> None:
    plain, fed = work([0, 1]), node(size="size_wh", threshold={"value": 1})
    assert with_given(plain, fed, EYES) is plain
    assert b"given" not in pack_works([plain])


def test_each_crop_gets_what_its_own_image_gave() -> None:
    outputs = {"features": np.array([[1, 2], [3, 4]], np.float16)}
    items = [{"pose": [0.1, 0.2, 0.3]}, {"pose": [0.4, 0.5, 0.6]}]
    spec = node(pose={"parent": "pose"}, score={"parent": "score"}, features={"output": "features"})
    assert given(spec, [1, 2], outputs=outputs, items=items) == {
        "key pose": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]],
        "score": [[0.8], [0.7]],
        "output features": [[1, 2], [3, 4]],
    }
    assert given(spec, [0, 1], outputs=outputs, items=items)["output features"] == [[1, 2]]  # once for all crops


@pytest.mark.parametrize(
    "items", [[{}, {}], [{"pose": None}] * 2, [{"pose": "front"}] * 2, [{"pose": [float("nan")]}] * 2]
)
def test_what_a_parent_does_not_give_is_left_out_and_named(items: list[dict[str, Any]]) -> None:
    spec = node(pose={"parent": "pose"})
    assert given(spec, [0], items=items) == {}
    values = FurtherValues([FurtherInput(name="pose", shape=(1, 3))], spec.inputs, TAKES, detects=False)
    assert "nothing feeds pose: the parent gave no pose" in str(values.refusal(work([0])))
    assert values.refusal(work([])) is None


def test_an_output_without_numbers_is_left_out() -> None:
    assert given(node(rows={"output": "rows"}), [0], outputs={"rows": np.zeros((1, 0, 6), np.float32)}) == {}


def test_values_that_do_not_fit_are_named() -> None:
    spec = node(pose={"parent": "pose"})
    values = FurtherValues([FurtherInput(name="pose", shape=(1, 3))], spec.inputs, TAKES, detects=False)
    sent = with_given(work([0]), spec, EYES, items=[{"pose": [1.0, 2.0]}, {}])
    with pytest.raises(BadInputError, match="input pose takes 3 per image, and got 2 numbers"):
        values.feed([sent], [(16, 16)], [np.eye(2, 3)])
