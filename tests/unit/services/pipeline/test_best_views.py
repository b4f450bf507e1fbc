"""The best view of each track: which frame it is of, what it costs in memory, and that a JPEG is small."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.best_views import BETTER, MAX_BYTES, SIDE, BestViews, encode, jpeg_of
from hams_services.pipeline.luma import small_luma
from hams_services.pipeline.tracking.quality import quality
from hams_shared.group.event_rules import EventsSpec
from hams_shared.wire.frames import Pixels

NOISE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
BLURRED = np.asarray(cv2.GaussianBlur(NOISE, (0, 0), 9), np.uint8)


def thing(track: int, box: tuple[float, float, float, float], score: float = 0.9, **more: Any) -> dict[str, Any]:
    return {"track": track, "box": box, "score": score, "label": "person", **more}


def shape(views: BestViews, track: int) -> tuple[int, ...] | None:
    found = views.of([track]).get(track)
    return None if found is None else found.pixels.shape


SMALL, LARGE, HUGE = (10.0, 10.0, 30.0, 40.0), (10.0, 10.0, 50.0, 70.0), (-5.0, -5.0, 400.0, 400.0)


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ([(SMALL, 0.9, NOISE), (LARGE, 0.9, NOISE)], (60, 40, 3)),
        ([(LARGE, 0.9, NOISE), (SMALL, 0.9, NOISE)], (60, 40, 3)),
        ([(SMALL, 0.9, NOISE), (LARGE, 0.1, NOISE)], (30, 20, 3)),  # larger, but not 1.5 times as good
        ([(SMALL, 0.9, NOISE), (LARGE, 0.9, BLURRED)], (30, 20, 3)),
        ([(HUGE, 0.9, NOISE)], (192, 256, 3)),  # within the frame, reduced to 256 pixels
        ([((400.0, 10.0, 500.0, 50.0), 0.9, NOISE)], None),  # outside of the frame
        ([((10.2, 10.2, 10.3, 10.3), 0.9, NOISE)], None),
    ],
)
def test_the_better_view_is_kept(seen: list[tuple[Any, float, Pixels]], kept: tuple[int, ...] | None) -> None:
    views = BestViews(4)
    for box, score, image in seen:
        views.see([thing(1, box, score)], image)
    assert shape(views, 1) == kept


def test_only_what_the_detector_found_counts_and_only_wanted_labels() -> None:
    views = BestViews(4, frozenset({"person"}))
    views.see([thing(1, LARGE, predicted=True), thing(2, LARGE) | {"label": "car"}, {"box": LARGE, "score": 1}], NOISE)
    assert len(views) == 0
    views.see([thing(1, SMALL)], NOISE)
    assert shape(views, 1) == (30, 20, 3)


def test_a_view_is_a_copy() -> None:
    views, image = BestViews(4), NOISE.copy()
    views.see([thing(1, SMALL)], image)
    image[:] = 0
    assert (views.of([1])[1].pixels == NOISE[10:40, 10:30]).all()


def test_tracks_that_end_are_forgotten() -> None:
    views = BestViews(4)
    views.see([thing(track, SMALL) for track in range(9)], NOISE)
    assert len(views) == 4
    views.keep(lambda track: track == 2)
    assert shape(views, 2) is not None
    assert len(views) == 1


def test_the_worst_of_pictures_fits() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for pixels in (noise, noise[:1], noise[:, :1], noise[:1, :1]):
        data = jpeg_of(pixels)
        assert len(data) <= MAX_BYTES
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


def test_a_view_is_encoded_once() -> None:
    views = BestViews(4)
    views.see([thing(1, SMALL)], NOISE)
    [view] = views.of([1]).values()
    encode([view])
    first = view.jpeg
    encode([view])
    assert view.jpeg is first
    views.see([thing(1, LARGE)], NOISE)
    assert views.of([1])[1].jpeg is None


BOXES = st.tuples(*(st.floats(-50, 350) for _ in range(4)))


@given(st.lists(st.tuples(st.integers(1, 6), BOXES, st.floats(0, 1)), max_size=30))
def test_whatever_comes_memory_is_bounded_and_no_view_is_much_better(
    seen: list[tuple[int, tuple[float, float, float, float], float]],
) -> None:
    views, best = BestViews(3), dict[int, float]()
    luma, size = small_luma(NOISE), (320, 240)
    for track, box, score in seen:
        one = thing(track, box, score)
        views.see([one], NOISE)
        best[track] = max(best.get(track, 0.0), quality(one, luma, size))
    assert len(views) <= 3
    for track, view in views.of(range(9)).items():
        assert max(view.pixels.shape) <= SIDE
        assert view.quality <= best[track]
        thin = any(one[0] == track and min(one[1][2] - one[1][0], one[1][3] - one[1][1]) < 1 for one in seen)
        assert thin or best[track] <= BETTER * view.quality * 1.0001


RULES = {"near": {"crop": True, "labels": ["person", "dog"]}, "far": {"labels": ["car"]}}


@pytest.mark.parametrize(
    ("spec", "crops", "labels", "has"),
    [
        ({}, False, set(), []),
        ({"crop": True}, True, set(), [("new", ""), ("end", ""), ("rule", "near"), ("rule", "far")]),
        ({"rules": RULES}, True, {"person", "dog"}, [("rule", "near")]),
        ({"rules": {**RULES, "any": {"crop": True}}}, True, set(), [("rule", "near"), ("rule", "any")]),
    ],
)
def test_which_events_have_a_crop(spec: dict[str, Any], crops: bool, labels: set[str], has: list[Any]) -> None:
    found = EventsSpec.model_validate({"rules": {"near": {}, "far": {}, "any": {}}, **spec})
    assert (found.crops, found.crop_labels) == (crops, labels)
    rules = [("rule", name) for name in found.rules if spec.get("rules") or name != "any"]
    assert [one for one in [("new", ""), ("update", ""), ("end", ""), *rules] if found.has_crop(*one)] == has
