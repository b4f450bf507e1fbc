"""Tracks and cadences in a group file: their forms, what goes with what, and the way over the wire and back."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hams_shared.errors import GroupSpecError
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.group.work_rules import CadenceSpec
from support.build import group_spec


def data(det: dict[str, Any], age: dict[str, Any], **extra: Any) -> dict[str, Any]:
    spec = group_spec(**extra).model_dump(mode="json", exclude_unset=True)
    spec["nodes"]["det"] |= det
    spec["nodes"]["age"] |= age
    return spec


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        (5, {"frames": 5}),
        ({"frames": 5}, {"frames": 5}),
        ("auto", {"auto": True}),
        ("track", {"track": True}),
        ({"seconds": 2}, {"seconds": 2.0}),
        ({"auto": True, "min_fps": 2}, {"auto": True, "min_fps": 2.0}),
        ({"max": 10, "min_agreement": 0.9}, {"max": 10, "min_agreement": 0.9}),
    ],
)
def test_forms_of_a_cadence(text: Any, is_: dict[str, Any]) -> None:
    assert CadenceSpec.model_validate(text).model_dump(exclude_defaults=True) == is_


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("often", "must be a number of frames, auto, track or a map, not 'often'"),
        ({}, "give one of frames, seconds, track, auto, max; found none"),
        ({"frames": 2, "seconds": 1}, "found frames, seconds"),
        ({"frames": 2, "min_fps": 1}, "min_fps goes with auto only"),
        ({"auto": True, "min_agreement": 0.9}, "min_agreement goes with max only"),
        (0, "greater than or equal to 1"),
        (True, "must be a map"),
    ],
)
def test_wrong_cadences(text: Any, why: str) -> None:
    with pytest.raises((ValidationError, GroupSpecError), match=why):
        parse_group(data({"track": {}, "cadence": text}, {}))


@pytest.mark.parametrize(
    ("det", "age", "why"),
    [
        ({}, {"track": {}}, "nodes.age.track: is for the node without parent"),
        ({"cadence": 2}, {}, "nodes.det.cadence: needs track"),
        ({"track": {}, "cadence": "track"}, {}, "nodes.det.cadence: track is for children"),
        ({}, {"cadence": "track"}, "nodes.age.cadence: needs a parent with track, which carries answers on; det has"),
        ({"track": {}}, {"cadence": "auto"}, "nodes.age.cadence: auto is for the detector"),
        ({"track": {}}, {"cadence": {"max": 5}}, "nodes.age.cadence: max is for the detector"),
    ],
)
def test_what_goes_with_what(det: dict[str, Any], age: dict[str, Any], why: str) -> None:
    with pytest.raises(GroupSpecError, match=why):
        parse_group(data(det, age))


@pytest.mark.parametrize(
    ("det", "age", "streams", "chosen"),
    [
        ({}, {}, {}, set()),
        ({"track": {}}, {}, {}, {"age"}),
        ({}, {"when": "score > 0.5"}, {}, {"age"}),
        ({}, {}, {"s": {"source": "push", "mask": [[[0, 0], [1, 0], [0, 1]]]}}, {"age"}),
        ({}, {}, {"s": {"source": "push", "zones": {"yard": [[0, 0], [1, 0], [0, 1]]}}}, set()),
    ],
)
def test_whose_objects_the_pipeline_chooses(
    det: dict[str, Any], age: dict[str, Any], streams: dict[str, Any], chosen: set[str]
) -> None:
    assert parse_group(data(det, age, streams=streams)).chosen == chosen


def test_a_group_is_the_same_after_the_wire() -> None:
    stream = {
        "source": "push",
        "gate": {},
        "roi": [0, 0, 1, 0.5],
        "tiles": {"grid": [2, 1]},
        "zones": {"yard": [[0, 0], [1, 0], [0, 1]]},
        "lines": {"door": [[0, 0], [1, 1]]},
    }
    spec = parse_group(
        data({"track": {"motion": "flow"}, "cadence": "auto"}, {"cadence": "track"}, streams={"s": stream})
    )
    assert GroupSpec.model_validate_json(spec.model_dump_json()) == spec
    assert GroupSpec.model_validate(spec.model_dump(mode="json")) == spec
