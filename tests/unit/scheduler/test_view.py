"""What of a shared device or host a group may expect; by hand, then against what sharing means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.expected_fps import fair_rate


@pytest.mark.parametrize(
    ("capacity", "cost", "others", "rate"),
    [
        (1.0, 0.1, [], 10.0),
        (1.0, 0.1, [(0.2, 0.1)], 8.0),  # takes 2 times, and wants no more
        (1.0, 0.1, [(0.9, 0.1)], 5.0),  # gives way: both get 5
        (1.0, 0.1, [(0.9, 0.3)], 2.5),  # dear frames: the same turns, not the same time
        (1.0, 0.1, [(0.9, 0.2), (0.1, 0.1)], 3.0),  # what the small one leaves is shared by two
        (1.0, 0.1, [(0.9, 0.1), (0.9, 0.2)], 2.5),
        (1.0, 0.1, [(0.3, 0.0)], 7.0),  # takes part of it, of unknown cost
        (0.0, 0.1, [], 0.0),  # those before it take all
    ],
)
def test_fair_rate(capacity: float, cost: float, others: list[tuple[float, float]], rate: float) -> None:
    assert fair_rate(capacity, cost, others) == pytest.approx(rate)


parts = st.floats(0.001, 1.0)


@given(parts, st.lists(st.tuples(parts, parts), max_size=6))
def test_nobody_takes_more_than_now_or_than_its_turns_and_all_is_taken(
    cost: float, others: list[tuple[float, float]]
) -> None:
    rate = fair_rate(1.0, cost, others)
    taken = rate * cost + sum(min(part, rate * each) for part, each in others)
    assert taken == pytest.approx(1.0)
