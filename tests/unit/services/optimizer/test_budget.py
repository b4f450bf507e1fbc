from __future__ import annotations

import pytest

from hams_services.optimizer.recipe import share


@pytest.mark.parametrize(
    ("costs", "wanted"),
    [
        ([80.0, 10.0, 10.0], 0.8),  # the costliest gets its part
        ([1.0, 1.0, 1.0, 1.0], 0.25),
        ([10.0, 80.0, 10.0], 1 / 6),  # but nobody less than half of an equal one
        ([0.0, 0.0], 0.25),
        ([3.0], 1.0),  # the last one gets what is left
    ],
)
def test_time_goes_where_the_cost_is(costs: list[float], wanted: float) -> None:
    assert share(costs) == pytest.approx(wanted)
