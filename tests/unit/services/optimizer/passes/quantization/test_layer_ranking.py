from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.optimizer.passes.quantization.layer_ranking import (
    FEW,
    by_error,
    errors_without,
    output_error,
    relative_error,
)


def test_the_layer_that_costs_most_is_first() -> None:
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
