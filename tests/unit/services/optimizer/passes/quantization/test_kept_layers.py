from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.optimizer.passes.quantization.kept_layers import KeepSearch
from hams_services.optimizer.passes.quantization.layer_ranking import (
    FEW,
    by_error,
    errors_without,
    output_error,
    relative_error,
)


def search(layers: int, needed: int, floor: float = 0.98) -> tuple[KeepSearch, list[int]]:
    """Run a search in which `needed` kept layers reach the floor."""
    keep = KeepSearch(layers, floor, deadline=1000.0)
    order: list[int] = []
    while (count := keep.next(0.0)) is not None:
        order.append(count)
        keep.add(count, 0.99 if count >= needed else 0.9)
    return keep, order


def test_plain_int8_is_enough() -> None:
    keep, order = search(50, 0)
    assert order == [0]
    assert keep.best == 0


def test_doubling_then_back() -> None:
    keep, order = search(50, 11)
    assert order == [0, 1, 2, 4, 8, 16, 12, 10, 11]
    assert keep.best == 11


def test_nothing_reaches_the_floor() -> None:
    keep, order = search(5, 99)
    assert order == [0, 1, 2, 4, 5]
    assert keep.best == 0  # all agree alike: the fastest


def test_time_is_up() -> None:
    keep = KeepSearch(50, 0.98, deadline=10.0)
    assert keep.next(99.0) == 0  # one try is always made
    keep.add(0, 0.5)
    assert keep.next(9.0) == 1
    assert keep.next(10.0) is None


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_best_reaches_the_floor_whenever_it_can(layers: int, needed: int) -> None:
    keep, order = search(layers, needed)
    assert len(order) == len(set(order)) <= 2 + 2 * max(layers, 1).bit_length()
    if needed <= layers:
        assert needed <= keep.best <= needed + max(1, keep.best // 8)


def test_who_spoils_most() -> None:
    assert by_error({"a": 0.5, "b": 0.1, "c": 0.5}) == ["b", "a", "c"]  # without b the least is left
    assert relative_error([np.float32([3, 4])], [np.float32([3, 3])]) == 1 / 25
    small, large = [np.float32([0.3, 0.4])], [np.float32([300, 400])]
    coarse = [[np.float32([0.3, 0.3])], [np.float32([300, 300])]]
    assert output_error([small, large], coarse) == pytest.approx(2 / 25)  # outputs weigh alike, whatever their scale


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=3), st.randoms(use_true_random=False))
def test_the_worst_of_many_are_found_without_asking_for_each(layers: int, bad: set[int], random: Random) -> None:
    names = [f"layer{index}" for index in range(layers)]
    spoils = {name: 1e-4 * random.random() for name in names}
    spoils |= {name: 1 + random.random() for index, name in enumerate(names) if index in bad}
    asked: list[int] = []

    def error_of(without: Sequence[str]) -> float:
        asked.append(len(without))
        return sum(spoils.values()) - sum(spoils[name] for name in without)

    order = by_error(errors_without(names, error_of))
    assert sorted(order) == sorted(names)
    worst = sorted((spoils[name] for name in names if spoils[name] >= 1), reverse=True)
    assert [spoils[name] for name in order[: len(worst)]] == pytest.approx(worst)  # those that spoil alike in any order
    assert len(asked) <= max(FEW, 13 + layers // 3)
