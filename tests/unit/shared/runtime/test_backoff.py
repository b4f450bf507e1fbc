"""Pauses between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_shared.runtime.backoff import Backoff


@pytest.mark.parametrize(("failures", "pause"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 5), (10**6, 5)])
def test_pauses_double_up_to_the_longest(failures: int, pause: float) -> None:
    assert Backoff(first=1, longest=5).pause(failures) == pause


@given(st.integers(0, 10**9), st.floats(0, 1))
def test_jitter_shortens_a_pause_by_its_share_at_most(failures: int, chance: float) -> None:
    backoff, steady = Backoff(0.5, 15, jitter=0.25), Backoff(0.5, 15)
    assert 0.75 * steady.pause(failures) <= backoff.pause(failures, chance) <= steady.pause(failures)
