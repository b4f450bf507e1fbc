"""Inputs of a file and `inputs:` of a node, matched."""

from __future__ import annotations

from typing import Any

import pytest

from hams_services.models.further_inputs import Port, further_inputs
from hams_shared.errors import ModelError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.wire.messages.group import FurtherInput

IMAGE = Port("image", (None, 3, 48, 64), "float32")


def node(inputs: dict[str, Any], parent: str | None = "det") -> NodeSpec:
    given = {"model": "/m.onnx", "parent": parent, "input": {"size": [64, 48]}, "task": {"type": "raw"}}
    return NodeSpec.model_validate({**given, "inputs": inputs})


def matched(source: Any, shape: tuple[int | None, ...] | None, dtype: str = "float32") -> FurtherInput:
    (found,) = further_inputs(node({"x": source}), [IMAGE, Port("x", shape, dtype)])
    return found


@pytest.mark.parametrize(
    ("source", "stated", "shape", "batched", "example"),
    [
        ("size_wh", (None, 2), (1, 2), True, (64, 48)),
        ("size_hw", (1, 2), (1, 2), True, (48, 64)),
        ("size_hw", (2,), (1, 2), False, (48, 64)),
        ("size_hw", (None, None), (1, 2), True, (48, 64)),
        ("size_hw", None, (1, 2), True, (48, 64)),
        ("size_hw", (1, 1, 2), (1, 1, 2), True, (48, 64)),
        ("scale_hw", (1, 2), (1, 2), True, (1, 1)),
        ("pad", (None, 4), (1, 4), True, (0, 0, 0, 0)),
        ("box", (None, 2, 2), (1, 2, 2), True, (0, 0, 64, 48)),
        ({"value": 0.5}, (), (1,), False, (0.5,)),
        ({"value": 0.5}, (1,), (1,), True, (0.5,)),
        ({"value": 0.5}, (None, 3), (1, 3), True, (0.5,)),
        ({"value": [1, 2, 3]}, (None, None), (1, 3), True, (1, 2, 3)),
        ({"value": [1, 2, 3]}, (None,), (1, 3), False, (1, 2, 3)),
        ({"value": [[1, 2], [3, 4]]}, (1, None, 2), (1, 2, 2), True, (1, 2, 3, 4)),
        ({"value": 0, "shape": [1, 8, 8]}, (1, 1, 8, 8), (1, 1, 8, 8), True, (0,)),
        ({"parent": "points"}, (None, None, 2), (1, -1, 2), True, (32, 24)),
        ({"parent": "points"}, (1, 5, 2), (1, 5, 2), True, (32, 24) * 5),
        ({"parent": "points", "pixels": "unit"}, (1, 1, 2), (1, 1, 2), True, (0.5, 0.5)),
        ({"parent": "box"}, (None, 1, 4), (1, 1, 4), True, (0, 0, 64, 48)),
        ({"parent": "score"}, (None, 1), (1, 1), True, (1,)),
        ({"output": "f"}, (1, 256, 4, 4), (1, 256, 4, 4), True, (0,)),
        ({"output": "f"}, (None, None), (1, -1), True, (0,)),
    ],
)
def test_shapes(source: Any, stated: Any, shape: Any, batched: bool, example: Any) -> None:
    found = matched(source, stated)
    assert (found.shape, found.batched) == (shape, batched)
    assert found.example == pytest.approx(example) or set(found.example) == set(example)


@pytest.mark.parametrize(
    ("source", "stated"),
    [
        ("size_wh", (None, 3)),
        ("pad", (None, 2)),
        ("box", ()),
        ({"value": [1, 2, 3]}, (1, 2)),
        ({"parent": "points"}, (1, 5, 3)),
        ({"parent": "box"}, (None, 5)),
    ],
)
def test_sources_that_do_not_fit(source: Any, stated: Any) -> None:
    with pytest.raises(ModelError, match=r"does not fit x \("):
        matched(source, stated)


def test_a_text_is_fed_by_nothing() -> None:
    with pytest.raises(ModelError, match="x takes text, which nothing in a frame is"):
        matched({"value": 1}, (1,), "text")


def test_one_input_needs_no_word() -> None:
    assert further_inputs(node({}), [Port("data", (1, 48, 64, 3), "uint8")]) == ()
    assert further_inputs(node({"data": "image"}), [Port("data", (1, 48, 64, 3), "uint8")]) == ()


def test_the_image_is_the_input_that_could_be_it() -> None:
    size = Port("size", (None, 2), "int64")
    (found,) = further_inputs(node({"size": "size_wh"}), [size, IMAGE])
    assert (found.name, found.dtype) == ("size", "int64")
    with pytest.raises(ModelError, match=r"nothing feeds the network's input size \(\?×2 int64\)"):
        further_inputs(node({}), [size, IMAGE])
    with pytest.raises(ModelError, match=r"inputs image \(.*\), other \(.*the one that takes the image: image"):
        further_inputs(node({}), [IMAGE, Port("other", (None, 3, 48, 64), "float32")])


def test_names_that_are_not_there() -> None:
    with pytest.raises(ModelError, match=r"no input 'imgae' \(did you mean image\?"):
        further_inputs(node({"imgae": "image"}), [IMAGE])
