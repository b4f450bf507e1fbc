from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from hams_services.optimizer.passes.search import LARGEST, SMALLEST, Scale, Search, kept_layers, shares, steps

FLOOR = 0.98


def run(scale: Scale[float] | Scale[int], agreement: Callable[[float], float]) -> tuple[Search[float], list[float]]:
    """Search to the end where a setting agrees by `agreement`."""
    search: Search[float] = Search(scale, FLOOR)  # type: ignore[arg-type]
    order: list[float] = []
    while (setting := search.next()) is not None:
        order.append(setting)
        search.tried[setting] = agreement(setting)
    return search, order


def needs(least: float) -> Callable[[float], float]:
    """Settings from `least` on reach the floor."""
    return lambda setting: 0.99 if setting >= least else 0.9


def reached(search: Search[float]) -> bool:
    return search.tried[search.best] >= FLOOR


def test_shares_go_down_then_halfway() -> None:
    search, order = run(shares(), needs(0.56))
    assert order == [0.65, 0.52, 0.585, 0.552, 0.569]
    assert search.best == 0.569


def test_shares_go_up_when_the_first_is_too_small() -> None:
    search, order = run(shares(), needs(0.8))
    assert order == [0.65, 0.825, 0.738, 0.781, 0.803, 0.792]
    assert search.best == 0.803


def test_no_share_reaches_the_floor() -> None:
    search, order = run(shares(), lambda share: 0.9 + share / 100)
    assert order == [0.65, 0.825, 0.912, LARGEST]
    assert (search.best, reached(search)) == (LARGEST, False)  # what comes nearest


def test_all_shares_do() -> None:
    search, order = run(shares(), needs(0.0))
    assert (order[-1], search.best) == (SMALLEST, SMALLEST)
    assert len(order) < 12


def test_kept_layers_double_then_go_back() -> None:
    search, order = run(kept_layers(50), needs(11))
    assert order == [0, 1, 2, 4, 8, 16, 12, 10, 11]
    assert search.best == 11


def test_no_layer_is_kept_without_need() -> None:
    search, order = run(kept_layers(50), needs(0))
    assert (order, search.best) == ([0], 0)


def test_no_number_of_kept_layers_reaches_the_floor() -> None:
    search, order = run(kept_layers(5), needs(99))
    assert order == [0, 1, 2, 4, 5]
    assert search.best == 0  # all agree alike: the fastest


def test_steps_end_with_the_first_that_reaches_the_floor() -> None:
    search, order = run(steps(5), needs(2))
    assert (order, search.best) == ([0, 1, 2], 2)
    search, order = run(steps(2), needs(9))
    assert (order, reached(search)) == ([0, 1], False)


@given(st.floats(0.0, 1.1), st.floats(SMALLEST, LARGEST), st.sampled_from([0.02, 0.06]))
def test_the_best_share_is_near_what_is_needed(needed: float, first: float, near: float) -> None:
    search, order = run(shares(first, near), needs(needed))
    assert len(order) == len(set(order)) <= 25
    assert reached(search) == (needed <= LARGEST)
    if reached(search):
        assert max(needed, SMALLEST) <= search.best <= max(needed, SMALLEST) + near + 0.01


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_best_number_of_kept_layers_reaches_the_floor_whenever_it_can(layers: int, needed: int) -> None:
    search, order = run(kept_layers(layers), needs(needed))
    assert len(order) == len(set(order)) <= 2 + 2 * max(layers, 1).bit_length()
    if needed <= layers:
        assert needed <= search.best <= needed + max(1, search.best // 8)
