from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hams_services.optimizer.passes.share_search import LARGEST, SMALLEST, ShareSearch


def run(needed: float, **options: float) -> tuple[ShareSearch, list[float]]:
    """Search where shares from `needed` on reach the floor."""
    search = ShareSearch(0.98, deadline=100.0, **options)
    order: list[float] = []
    while (share := search.next(0.0)) is not None:
        order.append(share)
        search.add(share, 0.99 if share >= needed else 0.9)
    return search, order


def test_down_then_halfway() -> None:
    search, order = run(0.56)
    assert order == [0.65, 0.52, 0.585, 0.552, 0.569]
    assert search.best == 0.569


def test_up_when_the_first_is_too_little() -> None:
    search, order = run(0.8)
    assert order == [0.65, 0.825, 0.738, 0.781, 0.803, 0.792]
    assert search.best == 0.803


def test_nothing_reaches_the_floor() -> None:
    search, order = run(2.0)
    assert order == [0.65, 0.825, 0.912, LARGEST]
    assert search.best is None


def test_all_do() -> None:
    search, order = run(0.0)
    assert (order[-1], search.best) == (SMALLEST, SMALLEST)
    assert len(order) < 12


def test_time_is_up() -> None:
    search = ShareSearch(0.98, deadline=10.0, first=0.5)
    assert search.next(99.0) == 0.5  # one try is always made
    search.add(0.5, 0.99)
    assert search.next(9.0) == 0.4
    assert search.next(10.0) is None


@given(st.floats(0.0, 1.1), st.floats(SMALLEST, LARGEST), st.sampled_from([0.02, 0.06]))
def test_the_best_is_near_what_is_needed(needed: float, first: float, near: float) -> None:
    search, order = run(needed, first=first, near=near)
    assert len(order) == len(set(order)) <= 25
    if needed <= LARGEST:
        assert search.best is not None
        assert max(needed, SMALLEST) <= search.best <= max(needed, SMALLEST) + near + 0.01
    else:
        assert search.best is None
