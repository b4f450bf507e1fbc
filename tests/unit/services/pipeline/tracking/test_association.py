"""Overlaps and assignments, as tables."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.tracking.association import assign, overlaps
from hams_services.pipeline.tracking.boxes import centred, corners, iou, usable

UNIT = [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (UNIT, 1.0),
        ([5, 0, 15, 10], 1 / 3),
        ([5, 5, 15, 15], 25 / 175),
        ([10, 0, 20, 10], 0.0),  # they touch
        ([30, 30, 40, 40], 0.0),
        ([2, 2, 4, 4], 0.04),
    ],
)
def test_overlap(other: list[float], expected: float) -> None:
    assert iou(np.array([UNIT]), np.array([other], float)) == pytest.approx(np.array([[expected]]))


def test_a_margin_makes_neighbours_overlap() -> None:
    one, other = np.array([UNIT]), np.array([[12.0, 0.0, 22.0, 10.0]])
    assert overlaps(one, other)[0, 0] == 0
    assert overlaps(one, other, 0.2)[0, 0] == pytest.approx(2 * 14 / (2 * 14 * 14 - 2 * 14))


def test_corners_and_centres() -> None:
    boxes = np.array([[1.0, 2.0, 4.0, 8.0]])
    assert centred(boxes).tolist() == [[2.5, 5.0, 3.0, 6.0]]
    assert corners(centred(boxes)).tolist() == boxes.tolist()


@pytest.mark.parametrize(
    ("box", "good"),
    [
        (UNIT, True),
        ([-5, -5, 1, 1], True),
        ([0, 0, 0.9, 10], False),
        ([10, 0, 0, 10], False),
        ([0, 0, math.nan, 10], False),
        ([0, 0, math.inf, 10], False),
        ([-math.inf, 0, math.inf, 10], False),
        ([0, 0, 1e7, 10], False),
    ],
)
def test_boxes_that_are_none(box: list[float], good: bool) -> None:
    assert usable(np.array([box], float)).tolist() == [good]


@pytest.mark.parametrize(
    ("alike", "pairs"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], [(0, 0), (1, 1)]),
        ([[0.6, 0.5], [0.5, 0.1]], [(0, 1), (1, 0)]),  # the sum counts, not the best pair
        ([[0.29, 0.9], [0.0, 0.0]], [(0, 1)]),
        ([[0.29, 0.29]], []),
        ([[0.3]], [(0, 0)]),
        ([[0.5], [0.9]], [(1, 0)]),
        # gated only afterwards it would be (1, 0)
        ([[0.9, 0.29], [0.65, 0.0]], [(0, 0)]),
    ],
)
def test_assignment(alike: list[list[float]], pairs: list[tuple[int, int]]) -> None:
    rows, columns = assign(np.array(alike), 0.3)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == pairs


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape: tuple[int, int]) -> None:
    rows, columns = assign(np.empty(shape), 0.3)
    assert (len(rows), len(columns)) == (0, 0)


@given(st.lists(st.lists(st.integers(0, 10), min_size=3, max_size=3), min_size=1, max_size=4))
def test_no_other_assignment_has_a_larger_sum(table: list[list[int]]) -> None:
    alike = np.array(table) / 10
    rows, columns = assign(alike, 0.3)
    gated = np.where(alike >= 0.3, alike, 0)
    wide = np.zeros((len(table), len(table) + 3))  # a row may have no partner
    wide[:, :3] = gated
    best = max(
        sum(wide[i, j] for i, j in enumerate(order)) for order in permutations(range(len(table) + 3), len(table))
    )
    assert gated[rows, columns].sum() == pytest.approx(best)
    assert (alike[rows, columns] >= 0.3).all()
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
