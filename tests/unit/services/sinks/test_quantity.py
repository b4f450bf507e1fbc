from __future__ import annotations

from typing import Any

import pytest

from hams_services.ctl.actions import results
from hams_services.sinks.draw_words import caption
from hams_services.sinks.quantity import quantity


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (8.79, "years", "9 y"),
        (26.2, "years", "26 y"),
        (0.2, "years", "0 y"),
        (-0.2, "years", "0 y"),
        (0.123456, "m/s", "0.123 m/s"),
        (18.4, "degrees", "18 °"),
        (3.14159, None, "3.14"),
        (1234.5, "", "1234"),
    ],
)
def test_numbers_are_written_alike_everywhere(value: float, unit: str | None, text: str) -> None:
    assert quantity(value, unit) == text
    output: dict[str, Any] = {"value": value} | ({"unit": unit} if unit else {})
    assert caption({"label": "face", "age": output}) == text
    assert results.summary({"label": "face", "score": 0.9, "age": output}) == f"face 0.90, age {text}"
    assert results.item_summary(output) == text
