"""The figures by which variants are judged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.agreement.boxes import average_precision, compare_boxes, match
from hams_services.agreement.compare import compare
from hams_services.agreement.values import angle_error, cosine, edit_distance, point_error, text_error
from hams_shared.errors import BadInputError


def box(x0: float, y0: float, x1: float, y1: float, score: float = 0.9, label: str = "car") -> dict[str, Any]:
    return {"box": [x0, y0, x1, y1], "score": score, "label": label}


A, B, C = box(0, 0, 10, 10), box(20, 20, 40, 40), box(100, 0, 110, 10, 0.6)


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ([[A, B]], [[A, B]], 1.0),
        ([[A, B]], [[B, A]], 1.0),
        ([[A, B]], [[A]], 0.5),
        ([[A]], [[A, C]], 1.0),  # what is wrong scores least: the area is whole
        ([[A]], [[A | {"score": 0.5}, C]], 0.5),  # what is wrong scores most
        ([[A]], [[A | {"label": "bus"}]], 0.0),
        ([[A]], [[A, A | {"score": 0.95}]], 1.0),  # found twice: the second is wrong, after all recall
        ([[A], []], [[A], [A | {"score": 0.99}]], 0.5),
        ([[A]], [[]], 0.0),
        ([[]], [[A]], 0.0),
        ([[]], [[]], 1.0),
    ],
)
def test_average_precision(truth: list[Any], found: list[Any], expected: float) -> None:
    assert average_precision(truth, found, 0.5) == pytest.approx(expected)


def test_a_shifted_box_counts_at_loose_overlaps_only() -> None:
    shifted = box(0, 0, 10, 6.4)  # overlap 0.64
    assert [average_precision([[A]], [[shifted]], o) for o in (0.6, 0.65)] == [1.0, 0.0]
    assert compare_boxes([[A]], [[shifted]])["ap50_75"] == pytest.approx(0.5)  # 3 of 6 overlaps


def test_spurious_boxes_cost_although_precision_over_recall_forgives_them() -> None:
    found = compare([[A]], [[A, C, C]])
    assert found.metrics["ap50"] == 1.0
    assert found.agreement == found.metrics["f1"] == pytest.approx(0.5)


NEAR, LOW = A | {"score": 0.48}, box(100, 0, 110, 10, 0.46)


@pytest.mark.parametrize(
    ("truth", "found", "agreement", "strict"),
    [
        ([A, B], [NEAR, B], 1.0, 2 / 3),  # nearly said: found
        ([NEAR, B], [A, B], 1.0, 2 / 3),  # said where the source nearly says it: not wrong
        ([A, B], [A, B, C], 0.8, 0.8),  # the source does not say it at all
        ([A, B], [B], 0.5, 2 / 3),  # not even nearly said: half of the area
        ([A, B], [A, B, LOW], 1.0, 1.0),  # nearly said by one only: nobody sees it
        ([A, B, LOW], [A, B], 1.0, 1.0),
        ([A], [NEAR | {"label": "bus"}], 0.0, 0.0),
    ],
)
def test_objects_at_the_threshold(truth: list[Any], found: list[Any], agreement: float, strict: float) -> None:
    result = compare([truth], [found], 0.5)
    assert result.agreement == pytest.approx(agreement)
    assert result.metrics["strict_f1"] == pytest.approx(strict)


def test_labels_that_are_nearly_said_only_cost_nothing() -> None:
    assert compare([[A, LOW | {"label": "bus"}]], [[A]], 0.5).agreement == 1.0
    assert compare([[A, LOW | {"label": "bus"}]], [[A, C | {"label": "bus"}]], 0.5).agreement == 1.0


def test_points_of_boxes() -> None:
    truth, moved = A | {"points": [[5, 5], [6, 6]]}, A | {"points": [[5, 6], [6, 7]]}
    assert compare([[truth]], [[moved]]).metrics["point_error"] == pytest.approx(0.1)
    assert compare([[truth]], [[moved]]).agreement == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("京A12345", "京A12346", 1)],
)
def test_edit_distance(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def test_values() -> None:
    assert angle_error(179, -179) == pytest.approx(2)
    assert cosine([1, 0], [0, 1]) == 0.0
    assert cosine([0, 0], [0, 0]) == 1.0
    assert cosine([1], [1, 2]) == 0.0
    assert point_error([[0, 0], [4, 9]], [[0, 3], [4, 12]]) == pytest.approx(0.5)


DESCRIPTIONS = {
    "class": ([{"label": "a", "score": 0.9}, {"label": "b", "score": 0.6}], [{"label": "a"}, {"label": "a"}], 0.5),
    "years": ([{"value": 20.0, "unit": "years"}], [{"value": 24.0, "unit": "years"}], 0.95),
    "degrees": ([{"yaw": 10.0, "pitch": 0.0, "roll": -179.0}], [{"yaw": 19.0, "pitch": 0.0, "roll": 179.0}], 0.9),
    "cosine": ([{"embedding": [1.0, 0.0]}], [{"embedding": [0.6, 0.8]}], 0.6),
    "text": ([{"text": "AB12", "score": 1.0}], [{"text": "AB13", "score": 0.5}], 0.75),
    "points": ([{"points": [[0, 0], [10, 10]]}], [{"points": [[0, 1], [10, 11]]}], 0.9),
    "pose": ([{"points": [[0, 0], [1, 1]], "pose": {"yaw": 0.0}}], [{"points": [[0, 0], [1, 1]], "pose": None}], 0.0),
    "attributes": (
        [{"attributes": {"color": {"label": "red", "score": 1}, "bag": 0.9}}],
        [{"attributes": {"color": {"label": "red", "score": 0.4}, "bag": 0.2}}],
        0.5,
    ),
    "raw": ([{"o": {"shape": [2], "values": [1.0, 0.0]}}], [{"o": {"shape": [2], "values": [0.0, 1.0]}}], 0.0),
    "numbers without a unit": ([{"value": 0.0}, {"value": 2.0}], [{"value": 0.2}, {"value": 2.0}], 0.95),
    "absent": ([{"label": "a"}], [{}], 0.0),
}


@pytest.mark.parametrize(("truth", "found", "expected"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_descriptions(truth: list[Any], found: list[Any], expected: float) -> None:
    assert compare(truth, found).agreement == pytest.approx(expected)
    assert compare(truth, truth).agreement == 1.0


def test_the_least_part_decides() -> None:
    truth = [{"points": [[0, 0], [10, 10]], "pose": {"yaw": 0.0}}]
    found = [{"points": [[0, 0], [10, 10]], "pose": {"yaw": 45.0}}]
    assert compare(truth, found).agreement == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("truth", "found", "text"),
    [
        ([], [], "cannot be compared"),
        ([[A]], [], "cannot be compared"),
        ([[], []], [[A], []], "on none of 2 images"),
        ([[A]], [{"label": "a"}], "objects cannot be compared with descriptions"),
        ([{"score": 1.0}], [{"score": 1.0}], "nothing that can be compared"),
    ],
)
def test_nothing_to_compare(truth: list[Any], found: list[Any], text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        compare(truth, found)


sides = st.floats(0, 100, allow_nan=False)
boxes = st.builds(
    lambda x, y, w, h, s, label: box(x, y, x + w + 1, y + h + 1, s, label),
    sides, sides, sides, sides, st.floats(0, 1), st.sampled_from(["car", "bus"]),
)  # fmt: skip
images = st.lists(st.lists(boxes, max_size=6), min_size=1, max_size=4)


@given(images, st.data())
def test_agreement_is_a_share_and_none_is_matched_twice(truth: list[Any], data: st.DataObject) -> None:
    found = [data.draw(st.lists(boxes, max_size=6)) for _ in truth]
    if not any(truth):
        return
    result = compare(truth, found)
    assert 0 <= result.agreement <= 1
    assert all(0 <= result.metrics[key] <= 1 + 1e-9 for key in ("ap50_75", "ap50", "precision", "recall", "f1", "iou"))
    pairs = match(truth[0], found[0], 0.5)
    assert len({i for i, *_ in pairs}) == len({j for _, j, _ in pairs}) == len(pairs)


@given(images)
def test_the_same_agrees_wholly(truth: list[Any]) -> None:
    distinct = [[one for i, one in enumerate(image) if one not in image[:i]] for image in truth]
    if any(distinct):
        assert compare(distinct, distinct).agreement == pytest.approx(1.0)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert 0 <= text_error(a, b) <= 1
