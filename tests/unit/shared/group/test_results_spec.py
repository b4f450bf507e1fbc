"""How results are written and kept: short forms, what is wrong, and what earlier versions read."""

from __future__ import annotations

from typing import Any

import pytest

from hams_shared.errors import GroupSpecError
from hams_shared.group.results_spec import ResultsSpec
from hams_shared.group.spec import parse_group
from support.build import group_spec


@pytest.mark.parametrize(
    ("given", "format", "keep"),
    [
        ("json", "json", None),
        ("1h", "msgpack", 3600.0),
        (90, "msgpack", 90.0),
        ("1.5m", "msgpack", 90.0),
        ({"format": "json", "keep": "7d"}, "json", 604_800.0),
        ({"keep": 600, "max_mb": 5}, "msgpack", 600.0),
        ({}, "msgpack", None),
    ],
)
def test_forms(given: Any, format: str, keep: float | None) -> None:
    spec = ResultsSpec.model_validate(given)
    assert (spec.format, spec.keep) == (format, keep)
    assert ResultsSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_earlier_versions_read_a_group_that_keeps_nothing() -> None:
    assert group_spec(results="json").model_dump()["results"] == "json"
    assert group_spec().model_dump()["results"] == "msgpack"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("soon", r"results: must be msgpack, json, how long results are kept \(90s, 10m, 1h, 7d\), or a map"),
        (["1h"], "results: must be msgpack, json, how long"),
        (True, "results: must be msgpack, json, how long"),
        ({"keep": "2w"}, "results.keep: must be a duration: 90s, 10m, 1h, 7d"),
        ({"keep": "8d"}, "results.keep: must be less than or equal to 604800"),
        ({"keep": "0s"}, "results.keep: must be greater than or equal to 1"),
        ({"max_mb": 3}, "results: max_mb needs keep"),
        ({"kep": "1h"}, r"results.kep: unknown key \(did you mean keep\?\)"),
    ],
)
def test_what_is_wrong(given: Any, text: str) -> None:
    with pytest.raises(GroupSpecError, match=text):
        parse_group({**group_spec().model_dump(), "results": given})
