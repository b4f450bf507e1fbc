"""Views of a frame, what is found in them together, and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_services.pipeline.regions import View, merged, unmasked, views
from hams_services.pipeline.zones import Zones
from hams_shared.group.regions import TilesSpec

LEFT, RIGHT = View(0, 0, 120, 100), View(80, 0, 200, 100)
"""Two tiles that share a strip of 40 pixels."""
WHOLE = View(0, 0, 200, 100)


def thing(x0: float, y0: float, x1: float, y1: float, score: float = 0.9, label: str = "person", **more: Any) -> dict:
    return {"box": [x0, y0, x1, y1], "score": score, "label": label, **more}


def boxes(parts: tuple[View, ...], *found: list[dict[str, Any]]) -> list[list[float]]:
    return [list(one["box"]) for one in merged(parts, found)]


# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_frame_or_the_roi_in_whole_pixels() -> None:
    assert views(None, None, (1920, 1080)) == (View(0, 0, 1920, 1080),)
    assert views(None, (0.25, 0.5, 0.75, 1.0), (101, 51)) == (View(25, 25, 76, 51),)
    assert views(None, (0.999, 0.999, 1.0, 1.0), (10, 10)) == (View(9, 9, 10, 10),)


def test_tiles_of_one_size_share_the_overlap() -> None:
    found = views(TilesSpec(grid=(3, 2), overlap=0.15), None, (1920, 1080))
    assert [(one.x0, one.y0) for one in found] == [(0, 0), (604, 0), (1208, 0), (0, 496), (604, 496), (1208, 496)]
    assert {one.size for one in found} == {(712, 584)}


def test_the_whole_comes_last_and_no_view_twice() -> None:
    roi = (0.0, 0.0, 0.5, 1.0)
    assert views(TilesSpec(grid=(1, 2), overlap=0, whole=True), roi, (200, 100)) == (
        View(0, 0, 100, 50),
        View(0, 50, 100, 100),
        View(0, 0, 100, 100),
    )
    assert views(TilesSpec(grid=(1, 1), whole=True), roi, (200, 100)) == (View(0, 0, 100, 100),)
    assert views(TilesSpec(grid=(6, 6)), None, (1, 1)) == (View(0, 0, 1, 1),)


# ── merge ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_and_one_list_for_each_view() -> None:
    assert merged((LEFT, RIGHT), ([], [])) == []
    with pytest.raises(ValueError, match="1 lists of objects for 2 views"):
        merged((LEFT, RIGHT), ([],))


def test_found_whole_in_both_the_better_score_stays() -> None:
    assert merged((LEFT, RIGHT), ([thing(90, 20, 110, 80, 0.7)], [thing(91, 21, 110, 80, 0.8, age=5)])) == [
        thing(91, 21, 110, 80, 0.8, age=5)
    ]


def test_a_part_gives_way_to_the_whole_whatever_its_score() -> None:
    assert boxes((LEFT, RIGHT), [thing(60, 20, 110, 80, 0.6)], [thing(80, 20, 110, 80, 0.99)]) == [[60, 20, 110, 80]]
    assert boxes((LEFT, RIGHT), [thing(60, 20, 84, 80, 0.6)], [thing(80, 30, 83.5, 60, 0.99)]) == [[60, 20, 84, 80]]


def test_the_whole_is_as_sure_as_its_surest_part() -> None:
    """Candidates that only the tracker gets are marked `low`."""
    whole, part = thing(60, 20, 110, 80, 0.2, low=True), thing(80, 20, 110, 80, 0.9)
    assert merged((LEFT, RIGHT), ([whole], [part])) == [thing(60, 20, 110, 80, 0.9)]
    assert merged((LEFT, RIGHT), ([whole], [{**part, "score": 0.3, "low": True}])) == [{**whole, "score": 0.3}]


def test_what_no_view_shows_whole_is_joined() -> None:
    left, right = thing(30, 20, 120, 80, 0.8, label="bus"), thing(80, 22, 170, 78, 0.9, label="bus", colour="red")
    assert merged((LEFT, RIGHT), ([left], [right])) == [thing(30, 20, 170, 80, 0.9, label="bus", colour="red")]


def test_the_view_of_the_whole_has_large_objects() -> None:
    parts = [thing(30, 20, 120, 80, 0.9)], [thing(80, 20, 170, 80, 0.9)]
    assert boxes((LEFT, RIGHT, WHOLE), *parts, [thing(30, 20, 170, 80, 0.5)]) == [[30, 20, 170, 80]]


def test_two_objects_of_one_view_are_two() -> None:
    crowd = [thing(90, 20, 110, 80, 0.9), thing(94, 20, 114, 80, 0.8)]
    assert boxes((LEFT, RIGHT), [crowd[0]], crowd) == [[90, 20, 110, 80], [94, 20, 114, 80]]
    assert boxes((LEFT, RIGHT), crowd, crowd) == [[90, 20, 110, 80], [94, 20, 114, 80]]


def test_cut_boxes_of_unlike_height_are_two_objects() -> None:
    assert len(merged((LEFT, RIGHT), ([thing(30, 5, 120, 30)], [thing(80, 60, 170, 95)]))) == 2


def test_labels_are_apart() -> None:
    both = [thing(90, 20, 110, 80)], [thing(90, 20, 110, 80, label="bike")]
    assert {one["label"] for one in merged((LEFT, RIGHT), both)} == {"person", "bike"}


def test_the_edge_of_the_frame_cuts_nothing() -> None:
    """At the left a person is half in the picture; another view, of the whole, has found less of them."""
    assert boxes((LEFT, WHOLE), [thing(0, 20, 15, 80, 0.9)], [thing(0, 25, 14, 80, 0.5)]) == [[0, 20, 15, 80]]


def test_across_the_corner_of_four_tiles() -> None:
    parts = views(TilesSpec(grid=(2, 2), overlap=0.2), None, (180, 180))
    bus = np.array([40, 40, 140, 140])
    found = [[thing(*np.clip(bus, [v.x0, v.y0] * 2, [v.x1, v.y1] * 2).tolist(), label="bus")] for v in parts]
    assert boxes(parts, *found) == [[40, 40, 140, 140]]


# ── masks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_stands_in_a_mask_is_left_out() -> None:
    masks = (((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)), ((0.9, 0.0), (1.0, 0.0), (1.0, 1.0), (0.9, 1.0)))
    feet = [thing(10, 10, 30, 80), thing(10, 0, 30, 40), thing(90, 0, 130, 100), thing(190, 50, 200, 100)]
    hidden = Zones(dict(zip("ab", masks, strict=True)))
    assert unmasked(feet, hidden, (200, 100)) == feet[1:3]
    assert unmasked(feet, Zones({}), (200, 100)) == feet
    assert unmasked([], hidden, (200, 100)) == []
