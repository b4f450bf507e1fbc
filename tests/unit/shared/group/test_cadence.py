"""A cadence that HAMS chooses by measured agreement."""

from __future__ import annotations

import pytest

from hams_shared.group.work_rules import CadenceSpec


@pytest.mark.parametrize(
    ("most", "steps"),
    [(2, (2,)), (4, (2, 3, 4)), (10, (2, 3, 5, 10)), (12, (2, 3, 5, 10, 12)), (60, (2, 3, 5, 10, 20, 30, 50, 60))],
)
def test_which_cadences_are_measured(most: int, steps: tuple[int, ...]) -> None:
    assert CadenceSpec(max=most).steps == steps


def test_others_measure_none() -> None:
    assert CadenceSpec(frames=5).steps == CadenceSpec(auto=True).steps == ()
    assert CadenceSpec(frames=5).chosen({2: 1.0}) == 1


@pytest.mark.parametrize(
    ("agreement", "chosen"),
    [
        ({}, 1),
        ({2: 0.9}, 1),
        ({2: 0.95}, 2),
        ({2: 0.99, 3: 0.97, 5: 0.95, 10: 0.9}, 5),
        ({2: 0.99, 3: 0.97, 5: 0.96, 10: 0.95}, 10),
        ({10: 0.95, 5: 0.96, 2: 0.99}, 10),  # in any order
        ({2: 0.99, 3: 0.94, 5: 0.96}, 2),  # what agrees beyond is luck
        ({2: 0.99, 20: 0.99}, 2),  # more than is allowed
        ({1: 1.0, 3: 0.96}, 3),
    ],
)
def test_the_largest_cadence_up_to_which_all_agree(agreement: dict[int, float], chosen: int) -> None:
    assert CadenceSpec.model_validate({"max": 10, "min_agreement": 0.95}).chosen(agreement) == chosen
