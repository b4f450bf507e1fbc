"""Points in polygons."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.polygons import inside

SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
CONCAVE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.3), (0.0, 1.0))


def test_in_on_and_beside_a_square() -> None:
    at = [(0.5, 0.5), (0.2, 0.5), (0.8, 0.8), (0.5, 0.8), (0.81, 0.5), (0.5, 0.19), (0.0, 0.2), (2.0, 0.5)]
    assert inside(SQUARE, at).tolist() == [True, True, True, True, False, False, False, False]
    assert inside(SQUARE[::-1], at).tolist() == inside(SQUARE, at).tolist()


def test_what_a_concave_polygon_leaves_out() -> None:
    assert inside(CONCAVE, [(0.5, 0.5), (0.5, 0.2), (0.1, 0.6), (0.9, 0.6)]).tolist() == [False, True, True, True]


def test_no_points() -> None:
    assert inside(SQUARE, np.empty((0, 2))).shape == (0,)


whole = st.integers(0, 12)


@given(
    st.lists(st.tuples(whole, whole), min_size=3, max_size=8, unique=True),
    st.lists(st.tuples(whole, whole), min_size=1, max_size=20),
)
def test_as_opencv_has_it(corners: list[tuple[int, int]], points: list[tuple[int, int]]) -> None:
    found = inside([(float(x), float(y)) for x, y in corners], points)
    contour = np.array(corners, np.int32)
    expected = [cv2.pointPolygonTest(contour, (float(x), float(y)), False) >= 0 for x, y in points]
    assert found.tolist() == expected
