"""Results of a candidate against those of what serves, node by node."""

from __future__ import annotations

from typing import Any

import pytest

from hams_services.pipeline.comparison import Agreements, agreements
from hams_shared.group.spec import parse_group
from support.build import group_spec

SPEC = group_spec(nodes=("det", "age"))
DEEP = parse_group(
    {
        "name": "cars",
        "nodes": {
            "car": {"model": "/a", "input": {"size": [8, 8]}, "task": {"type": "raw"}},
            "plate": {"model": "/b", "input": {"size": [8, 8]}, "task": {"type": "raw"}, "parent": "car"},
            "text": {"model": "/c", "input": {"size": [8, 8]}, "task": {"type": "raw"}, "parent": "plate"},
        },
    }
)


def box(at: float = 0.0, label: str = "face", **more: Any) -> dict[str, Any]:
    return {"box": [at, 0, at + 10, 10], "score": 0.9, "label": label, **more}


def agreed(spec: Any, *pairs: Any) -> dict[str, float]:
    found = Agreements()
    found.take(agreements(spec, spec, pairs), len(pairs))
    return {node: round(value, 3) for node, value in found.by_node.items()}


SAME = [box(0, age={"value": 30}), box(50, age={"value": 40})]


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        (SAME, SAME, {"det": 1.0, "age": 1.0}),
        (SAME, [*reversed(SAME)], {"det": 1.0, "age": 1.0}),  # whatever their order
        ([], [], {"det": 1.0}),
        ([], [box()], {"det": 0.0}),
        ([box()], [], {"det": 0.0}),
        (
            SAME,
            [box(0, age={"value": 30}), box(200, age={"value": 90})],
            {"det": 0.5, "age": 1.0},
        ),  # only what both found
        ([box(age={"label": "a"})], [box(age={"label": "b"})], {"det": 1.0, "age": 0.0}),
        ([box(age={"label": "a"})], [box()], {"det": 1.0}),  # the child did not run on both
        (
            [box(age={"label": "a", "from_frame": 3, "similarity": 0.9, "identity": "x"}, track=4, age_s=2.0)],
            [box(age={"label": "a"}, track=9)],
            {"det": 1.0, "age": 1.0},
        ),
    ],
)
def test_agreement_by_node(reference: Any, found: Any, expected: dict[str, float]) -> None:
    assert agreed(SPEC, (reference, found)) == expected


def test_what_nodes_find_in_objects_is_compared_in_them() -> None:
    def car(text: str, at: float = 2.0) -> list[dict[str, Any]]:
        return [box(label="car", plate={"objects": [box(at, "plate", text={"text": text})]})]

    assert agreed(DEEP, (car("AB12"), car("AB12"))) == {"car": 1.0, "plate": 1.0, "text": 1.0}
    assert agreed(DEEP, (car("AB12"), car("AB17"))) == {"car": 1.0, "plate": 1.0, "text": 0.75}
    assert agreed(DEEP, (car("AB12"), car("AB12", 90.0))) == {"car": 1.0, "plate": 0.0}


def test_a_root_that_describes_the_frame_is_compared_by_its_description() -> None:
    def frame(label: str) -> list[dict[str, Any]]:
        return [{"box": [0, 0, 8, 8], "score": 1.0, "label": "frame", "det": {"label": label}}]

    alone = group_spec(nodes=("det",))
    assert agreed(alone, (frame("day"), frame("day")), (frame("day"), frame("night"))) == {"det": 0.5}


def test_nodes_that_only_one_has_are_left_out_and_the_least_counts() -> None:
    other = group_spec(nodes=("det", "mood"))
    found = Agreements()
    assert found.least is None
    found.take(agreements(SPEC, other, [(SAME, SAME)]), 1)
    found.take({"det": (0.5, 3), "mood": (0.1, 0)}, 3)
    assert (found.by_node, found.least, found.frames) == ({"det": 0.625}, 0.625, 4)
