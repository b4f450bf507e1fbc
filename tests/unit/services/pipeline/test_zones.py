"""Where foot points are: zones, borders, lines, and what does not flicker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hams_services.pipeline.zones import Lines, Moves, Places, Zones, foot_points, margins

WIDE, HIGH = SIZE = (200, 100)
SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
ANGLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.3), (0.3, 0.3), (0.3, 1.0), (0.0, 1.0))
"""An L on its head."""
BAY = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0))
"""With a notch from below."""
STAR = ((0.5, 0.0), (0.8, 1.0), (0.0, 0.4), (1.0, 0.4), (0.2, 1.0))
TWICE = ((0.2, 0.2), (0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2))


def contains(polygon: Sequence[tuple[float, float]], *points: tuple[float, float]) -> list[bool]:
    return [row[0] for row in Zones({"zone": tuple(polygon)}).contain(np.array(points, np.float64)).tolist()]


@pytest.mark.parametrize(
    ("polygon", "inside", "outside"),
    [
        (SQUARE, [(0.5, 0.5), (0.21, 0.79)], [(0.1, 0.5), (0.9, 0.5), (0.5, 0.1), (0.5, 0.81), (0.9, 0.2), (0.1, 0.8)]),
        (SQUARE, [(0.2, 0.5), (0.8, 0.5), (0.5, 0.2), (0.5, 0.8), *SQUARE], [(0.2, 0.801), (0.801, 0.8)]),
        (ANGLE, [(0.1, 0.9), (0.9, 0.1), (0.3, 0.3), (0.3, 0.7), (0.0, 1.0)], [(0.31, 0.31), (0.9, 0.9), (0.5, 0.4)]),
        (BAY, [(0.5, 0.5), (0.1, 0.8), (0.9, 0.8), (0.75, 0.75)], [(0.5, 0.51), (0.5, 1.0), (0.4, 0.9), (0.7, 0.75)]),
        (STAR, [(0.5, 0.1), (0.1, 0.42), (0.9, 0.42)], [(0.5, 0.6), (0.1, 0.1), (0.5, 0.95)]),
        (TWICE, [(0.5, 0.5), (0.2, 0.5)], [(0.1, 0.5), (0.9, 0.2), (0.0, 0.2), (0.5, 0.9)]),
    ],
    ids=["square", "border", "concave", "notch", "star", "corners given twice"],
)
def test_zones_contain(
    polygon: Sequence[tuple[float, float]], inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    for corners in (polygon, polygon[::-1], (*polygon[2:], *polygon[:2])):
        assert contains(corners, *inside) == [True] * len(inside)
        assert contains(corners, *outside) == [False] * len(outside)


def test_zones_that_share_a_border_leave_no_gap() -> None:
    left = ((0.0, 0.0), (0.37, 0.0), (0.61, 1.0), (0.0, 1.0))
    right = ((0.37, 0.0), (1.0, 0.0), (1.0, 1.0), (0.61, 1.0))
    points = np.random.default_rng(1).random((5000, 2))
    points = np.concatenate((points, [(0.37 + 0.24 * y, y) for y in np.linspace(0, 1, 1001)]))
    inside = Zones({"left": left, "right": right}).contain(points)
    assert inside.any(axis=1).all()
    assert inside[:5000].sum() == 5000
    assert inside[5000:].all()


@pytest.mark.parametrize("seed", range(20))
def test_many_points_and_zones_at_once_are_as_each_by_itself(seed: int) -> None:
    random = np.random.default_rng(seed)
    polygons = {f"z{k}": tuple(map(tuple, random.random((3 + k, 2)).tolist())) for k in range(5)}
    points = random.random((50, 2))
    inside = Zones(polygons).contain(points)

    def alone(polygon: Sequence[tuple[float, float]], x: float, y: float) -> bool:
        odd = False
        for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            if (ay <= y) != (by <= y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
                odd = not odd
        return odd

    assert inside.tolist() == [[alone(polygon, x, y) for polygon in polygons.values()] for x, y in points.tolist()]


def test_objects_stand_on_the_middle_of_their_lower_edge_and_within_the_picture() -> None:
    boxes = np.array([(80, 10, 120, 50), (-40, 60, 20, 140), (190, -30, 230, -5)], np.float64)
    assert foot_points(boxes, SIZE).tolist() == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]
    assert Zones({"all": ((0, 0), (1, 0), (1, 1), (0, 1)), "square": SQUARE}).of(boxes, SIZE) == [
        ("all", "square"),
        ("all",),
        ("all",),
    ]


def test_without_zones_or_objects_there_is_nothing() -> None:
    none = np.empty((0, 4))
    assert Zones({}).of(np.array([(0.0, 0, 9, 9)]), SIZE) == [()]
    assert Zones({"square": SQUARE}).of(none, SIZE) == []
    places = Places(Zones({}), Lines({}), 2)
    assert places.move(np.array([0]), np.array([(0.0, 0, 9, 9)]), SIZE) == Moves([], [], [])


def test_distances_from_a_border_are_in_pixels() -> None:
    feet = np.array([(0.1, 0.5), (0.5, 0.9), (0.1, 0.9), (0.5, 0.5)])
    away = Zones({"square": SQUARE}).distance(feet, SIZE)[:, 0]
    assert away.tolist() == pytest.approx([20, 10, np.hypot(20, 10), 30])


def test_the_margin_grows_with_the_box() -> None:
    assert margins(np.array([(0, 0, 10, 10), (0, 0, 50, 200)], np.float64)).tolist() == [2.0, 10.0]


# ── tracks that move ──────────────────────────────────────────────────────────────────────────────────────────────────

HALF = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
"""From x = 100 on."""
BOX = 20.0
"""Side of the boxes: their margin is 2 pixels."""


def moves(places: Places, *feet: tuple[float, float], size: tuple[float, float] = SIZE) -> list[str]:
    """Move the track in slot 1 along `feet`, pixels; return what happened at each, in the places' letters."""
    told = []
    for x, y in feet:
        box = np.array([(x - BOX / 2, y - BOX, x + BOX / 2, y)])
        left, entered, crossed = places.move(np.array([1]), box, size)
        told.append("-" * len(left) + "+" * len(entered) + "".join("in" if way else "out" for _, _, way in crossed))
    return told


@pytest.mark.parametrize(
    ("xs", "told"),
    [
        ([90, 110, 90], ["", "+", "-"]),
        ([110, 90], ["+", "-"]),
        ([99, 100, 99, 101, 98, 100, 98.1], ["", "+", "", "", "", "", ""]),
        ([99, 100, 97.9, 99.9, 100], ["", "+", "-", "", "+"]),
    ],
    ids=["enter and leave", "begin inside", "stand on the border", "farther than the margin"],
)
def test_zones_are_entered_and_left(xs: list[float], told: list[str]) -> None:
    assert moves(Places(Zones({"half": HALF}), Lines({}), 2), *((x, 50) for x in xs)) == told


@pytest.mark.parametrize(
    ("feet", "told"),
    [
        ([(90, 50), (110, 50)], ["", "out"]),
        ([(110, 50), (90, 50)], ["", "in"]),
        ([(90, 50), (110, 50), (90, 50), (110, 50)], ["", "out", "in", "out"]),
        ([(90, 50), (99, 50), (101, 50), (102.5, 50)], ["", "", "", "out"]),
        ([(90, 50), (101, 50), (99, 50), (101.5, 50), (99, 50), (90, 50)], [""] * 6),
        ([(99.5, 50), (100.5, 50), (99.5, 50), (100.5, 50)], [""] * 4),
        ([(99, 50), (103, 50)], ["", "out"]),
        ([(100, 50), (103, 50), (97, 50)], ["", "", "in"]),
        ([(90, 50), (100, 50), (110, 50)], ["", "", "out"]),
        ([(90, 50), (100, 50), (90, 50)], [""] * 3),
        ([(90, 90), (110, 90), (110, 50), (90, 50)], ["", "", "", "in"]),
        ([(90, 60), (110, 60)], ["", "out"]),
        ([(90, 60.1), (110, 60.1)], ["", ""]),
        ([(90, 55), (110, 67)], ["", ""]),
        ([(90, 55), (110, 64)], ["", "out"]),
        ([(99, 61), (101, 61), (101, 59), (103, 59)], [""] * 4),
        ([(99, 59), (101, 59), (101, 61), (103, 61)], ["", "", "", "out"]),
    ],
    ids=[
        "from left to right in the picture",
        "from right to left",
        "there and back",
        "slowly",
        "stand on it and go back",
        "stand on it from the beginning",
        "begin beside it",
        "begin on it",
        "stop on it",
        "touch it",
        "round its end, then through",
        "through its end",
        "past its end",
        "past its end on a slope",
        "through on a slope",
        "round its end within the margin",
        "through it within the margin, then past its end",
    ],
)
def test_lines_are_crossed(feet: list[tuple[float, float]], told: list[str]) -> None:
    """The line goes down from (100, 10) to (100, 60): its left is the picture's right."""
    places = Places(Zones({}), Lines({"door": ((0.5, 0.1), (0.5, 0.6))}), 2)
    assert moves(places, *feet) == told


@pytest.mark.parametrize(
    ("line", "before", "after", "way"),
    [
        (((0.0, 0.5), (1.0, 0.5)), (50, 40), (50, 60), "in"),
        (((1.0, 0.5), (0.0, 0.5)), (50, 40), (50, 60), "out"),
        (((0.5, 1.0), (0.5, 0.0)), (90, 50), (110, 50), "in"),
        (((0.0, 0.0), (1.0, 1.0)), (100, 40), (100, 60), "in"),
        (((0.0, 0.0), (1.0, 1.0)), (100, 60), (100, 40), "out"),
    ],
)
def test_in_is_from_left_to_right_seen_along_the_line(
    line: tuple[tuple[float, float], tuple[float, float]],
    before: tuple[float, float],
    after: tuple[float, float],
    way: str,
) -> None:
    assert moves(Places(Zones({}), Lines({"line": line}), 2), before, after) == ["", way]


def test_a_picture_of_another_size_moves_nobody() -> None:
    places = Places(Zones({"half": HALF}), Lines({"door": ((0.5, 0.1), (0.5, 0.6))}), 2)
    assert moves(places, (110, 50)) == ["+"]
    assert moves(places, (220, 100), size=(400, 200)) == [""]
    assert moves(places, (90, 50)) == ["-in"]


def test_a_slot_begins_anew() -> None:
    places = Places(Zones({"half": HALF}), Lines({"door": ((0.5, 0.1), (0.5, 0.6))}), 2)
    assert moves(places, (90, 50), (110, 50)) == ["", "+out"]
    places.begin(1)
    assert moves(places, (90, 50)) == [""]


def test_many_tracks_move_at_once() -> None:
    lines = {"door": ((0.5, 0.1), (0.5, 0.6)), "sill": ((0.0, 0.5), (1.0, 0.5))}
    places = Places(Zones({"half": HALF, "square": SQUARE}), Lines(lines), 4)

    def boxes(*feet: tuple[float, float]) -> np.ndarray:
        return np.array([(x - 10, y - 20, x + 10, y) for x, y in feet], np.float64)

    slots = np.array([2, 0, 3])
    assert places.move(slots, boxes((90, 40), (110, 40), (190, 90)), SIZE) == Moves(
        [], [(0, 1), (1, 0), (1, 1), (2, 0)], []
    )
    assert places.move(slots, boxes((110, 40), (90, 45), (90, 95)), SIZE) == Moves(
        [(1, 0), (2, 0)], [(0, 0)], [(0, 0, False), (1, 0, True)]
    )
    assert places.inside.tolist() == [[False, True], [False, False], [True, True], [False, False]]
