"""The comparison itself: what is a difference, and what is let pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from accuracy.compare import MARGIN, OPTIONAL, UNSTEADY, Comparison, Item, Tolerance, brief

FACE: Item = {
    "box": [100.0, 100.0, 200.0, 200.0],
    "score": 0.9,
    "label": "face",
    "points": [[120.0, 140.0], [180.0, 140.0], [150.0, 190.0]],
    "gender": {"label": "female", "score": 0.97},
    "age": {"value": 31.0, "unit": "years"},
    "mesh": {
        "points": [[110.0, 110.0], [190.0, 190.0]],
        "pose": {"yaw": 3.0},
        "objects": [
            {"box": [110.0, 130.0, 130.0, 150.0], "score": 1.0, "label": "eye", "iris": {"points": [[1.0, 2.0]]}}
        ],
    },
    "who": {"embedding": [0.6, 0.8, 0.0]},
}
NODES = ("face", "gender", "age", "mesh", "iris", "who")


def compared(expected: list[Item], found: list[Item], limit: float = 1.0) -> Comparison:
    comparison = Comparison({"face": 0.5, "mesh": 0.5}, dict.fromkeys(NODES, Tolerance()), limit)
    comparison.objects("picture 0", "face", expected, found)
    return comparison


def changed(path: str, value: Any) -> Item:
    """A copy of FACE with one value another."""
    face = copy.deepcopy(FACE)
    *outer, last = path.split(".")
    inner: Any = face
    for key in outer:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    return face


def test_the_same_is_no_difference() -> None:
    assert compared([FACE], [copy.deepcopy(FACE)]).differences == []


@pytest.mark.parametrize(
    ("path", "near", "far"),
    [
        ("box", [101.0, 101.0, 201.0, 201.0], [103.0, 100.0, 203.0, 200.0]),
        ("score", 0.885, 0.87),
        ("points", [[120.9, 140.0], [180.0, 140.0], [150.0, 190.0]], [[122.0, 140.0], [180.0, 140.0], [150.0, 190.0]]),
        ("gender.score", 0.955, 0.94),
        ("age.value", 31.4, 31.6),
        ("mesh.points", [[111.0, 110.0], [190.0, 190.0]], [[112.0, 110.0], [190.0, 190.0]]),
        ("mesh.pose.yaw", 4.0, 5.0),
        ("mesh.objects.0.iris.points", [[1.0, 2.9]], [[1.0, 3.1]]),
        ("who.embedding", [0.62, 0.78, 0.0], [0.6, 0.8, 0.2]),
    ],
)
def test_values_may_be_off_by_their_tolerance(path: str, near: Any, far: Any) -> None:
    assert compared([FACE], [changed(path, near)]).differences == []
    [one] = compared([FACE], [changed(path, far)]).differences
    assert path.split(".")[-1] in one.text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gender.label", "male"),
        ("age.unit", "months"),
        ("mesh.pose", None),
        ("mesh.points", [[110.0, 110.0]]),
        ("who.embedding", [0.6, 0.8]),
        ("mesh.objects", []),
    ],
)
def test_other_answers_are_differences(path: str, value: Any) -> None:
    assert compared([FACE], [changed(path, value)]).differences


def test_a_child_that_is_silent_or_new_is_a_difference() -> None:
    without = {key: value for key, value in FACE.items() if key != "age"}
    assert "age is missing" in compared([FACE], [without]).report
    assert "age is not expected" in compared([without], [FACE]).report


def test_objects_near_the_threshold_may_be_there_or_not() -> None:
    near = {**FACE, "score": 0.5 + MARGIN / 2}
    assert compared([FACE, near], [FACE]).differences == []
    assert compared([FACE], [FACE, near]).differences == []


def test_clear_objects_are_there_or_not() -> None:
    assert "not found" in compared([FACE, changed("label", "cat")], [FACE]).report
    assert "not expected" in compared([FACE], [FACE, changed("label", "cat")]).report
    elsewhere = changed("box", [300.0, 100.0, 400.0, 200.0])
    assert len(compared([FACE], [elsewhere]).differences) == 2


def test_an_object_below_the_threshold_is_a_difference() -> None:
    low = {"box": [0.0, 0.0, 9.0, 9.0], "score": 0.45, "label": "face"}
    assert "below the threshold" in compared([FACE], [FACE, low]).report


def test_a_label_that_is_not_clear_may_change() -> None:
    unclear = changed("gender", {"label": "female", "score": 0.55})
    assert compared([unclear], [changed("gender", {"label": "male", "score": 0.52})]).differences == []


def test_what_is_unsteady_is_not_looked_at() -> None:
    expected = {**FACE, "age": {"value": 31.0, "unit": "years", UNSTEADY: ["value"]}}
    assert compared([expected], [changed("age.value", 50.0)]).differences == []
    assert compared([expected], [changed("age.unit", "months")]).differences
    assert compared([{**FACE, OPTIONAL: True}], []).differences == []


def test_how_much_of_a_tolerance_is_used() -> None:
    found = compared([FACE], [changed("age.value", 31.25)], limit=0.4)
    assert found.used["age", "value"] == pytest.approx(0.5)
    assert [(one.item, one.key) for one in found.differences] == [(FACE["age"], "value")]


def test_answers_are_kept_short() -> None:
    [kept] = brief(
        [
            {
                "box": [1.23456] * 4,
                "score": 0.12345,
                "label": "x",
                "mesh": {"points": [[float(i), 0.0] for i in range(468)]},
                "who": {"embedding": [0.123456] * 256},
                "attributes": {"point_names": ["top"], "attributes": {"hat": 0.98765}},
            }
        ]
    )
    assert kept["box"] == [1.23] * 4
    assert (kept["score"], kept["label"]) == (0.123, "x")
    assert kept["mesh"]["points"][:2] == [[0.0, 0.0], [39.0, 0.0]]
    assert len(kept["mesh"]["points"]) == 12
    assert kept["who"]["embedding"] == [0.1235] * 32
    assert kept["attributes"] == {"point_names": ["top"], "attributes": {"hat": 0.988}}
