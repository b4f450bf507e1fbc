"""Trails are those of the last seconds of a stream, bounded, and each stream has its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_client import Result
from hams_services.sinks import painter as painting
from hams_services.sinks.painter import Painter
from hams_services.sinks.trails import POINTS, TRACKS, TRAIL_S, Trails
from hams_shared.group.regions import Regions
from support.results import result


def at(x: float, track: int = 1) -> dict[str, Any]:
    """A person whose foot point is (x, 300)."""
    return {"box": [x - 20, 200, x + 20, 300], "score": 0.9, "label": "person", "track": track}


def test_a_trail_is_where_the_foot_was_in_the_last_seconds() -> None:
    trails = Trails()
    for frame in range(250):  # 10 s
        trails.add(frame, frame / 25, [at(frame)])
    (trail,) = trails.trails()
    assert trail.track == 1
    assert trail.points[-1].tolist() == [249, 300]
    assert trail.points[0, 0] == pytest.approx(249 - 25 * TRAIL_S, abs=3)
    assert trail.ages[-1] == 0
    assert trail.ages[0] <= TRAIL_S
    assert len(trail.points) <= POINTS + 2
    assert (np.diff(trail.points[:, 0]) > 0).all()


def test_the_jumps_of_boxes_are_smoothed() -> None:
    """Steps of the trail of a steady walk differ less than those of its boxes, which jump by up to 6 pixels."""
    trails, random = Trails(), np.random.default_rng(3)
    x = 100 + 5 * np.arange(40) + random.uniform(-6, 6, 40)
    for frame in range(40):
        trails.add(frame, frame / 5, [at(float(x[frame]))])
    assert np.diff(trails.trails()[0].points[:, 0]).std() < 0.5 * np.diff(x[-20:]).std()


def test_a_trail_goes_once_its_track_is_gone() -> None:
    trails = Trails()
    for frame in range(20):
        trails.add(frame, frame / 10, [at(frame)])
    trails.add(21, 2.0 + TRAIL_S / 2, [])
    assert len(trails.trails()) == 1
    trails.add(22, 2.1 + TRAIL_S, [])
    assert trails.trails() == []


@pytest.mark.parametrize(("frame", "t"), [(0, 9.0), (9, 0.0)])
def test_a_stream_that_starts_over_has_no_trails(frame: int, t: float) -> None:
    trails = Trails()
    trails.add(5, 5.0, [at(100)])
    trails.add(6, 5.1, [at(110)])
    trails.add(frame, t, [at(120)])
    assert trails.trails() == []


ODD = st.one_of(
    st.none(), st.text(max_size=3), st.floats(), st.lists(st.floats(), max_size=5), st.booleans(), st.integers()
)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.lists(st.fixed_dictionaries({"track": ODD, "box": ODD}), max_size=3)))
)
def test_no_result_breaks_trails(frames: list[tuple[float, list[dict[str, Any]]]]) -> None:
    trails = Trails()
    for number, (t, objects) in enumerate(frames):
        trails.add(number, t, objects)
        assert all(np.isfinite(trail.points).all() for trail in trails.trails())


def test_trails_are_bounded() -> None:
    trails = Trails()
    for frame in range(30):
        trails.add(frame, frame / 25, [at(frame, 1000 * frame + track) for track in range(100)])
    trails.add(30, 1.2, [at(1, 29_000 + track) for track in range(100)])
    assert len(trails._points) == TRACKS
    assert {trail.track for trail in trails.trails()} == set(range(29_000, 29_100))


def test_each_stream_has_its_own_trails_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "STREAMS", 2)
    line = Regions.model_validate({"lines": {"gate": [[0.1, 0.9], [0.9, 0.9]]}})
    painter = Painter({"a": line})
    image = np.full((480, 640, 3), 128, np.uint8)

    def drawn(frame: int, x: float, stream: str) -> np.ndarray:
        shown = painter.paint(result(frame, frame / 10, at(x), stream=stream), image)
        return (shown != 128).any(axis=-1)

    for frame in range(10):
        painter.follow(result(frame, frame / 10, at(100 + 20 * frame), stream="a"))
    shown = drawn(10, 320, "a")
    assert shown[300, 130:300].all()
    assert shown[432, 70:570].all()
    other = drawn(10, 320, "b")
    assert not other[300, :290].any()
    assert not other[432].any()
    drawn(0, 320, "c")
    assert not drawn(11, 340, "a")[300, :290].any()  # of three streams, the one painted least recently


def test_with_another_run_ids_are_of_other_tracks() -> None:
    painter = Painter()

    def follow(frame: int, run: str) -> int:
        one = result(frame, frame / 10, at(100 + frame))
        return len(painter.follow(Result({**one.data, "run": run})).trails())

    assert [follow(frame, "a") for frame in range(3)] == [0, 1, 1]
    assert [follow(frame, "b") for frame in range(3, 6)] == [0, 1, 1]
