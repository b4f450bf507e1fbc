"""What becomes of tracks, frame by frame. Times are the media's, in s; boxes are 20×40 pixels around a point."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hams_services.pipeline.tracking.bytetrack import Detections, Settings, Tracker
from hams_services.pipeline.tracking.kalman import Noise
from hams_services.pipeline.tracking.tracks import State, Track

SURE = Settings(confirm_hits=1)


def at(x: float, y: float = 100.0, score: float = 0.8, label: str = "person") -> tuple[list[float], float, str]:
    return [x - 10, y - 20, x + 10, y + 20], score, label


def look(tracker: Tracker, t: float, *found: Any, moved: Any = None) -> list[Track]:
    tracks = tracker.update(Detections.of(found), t, moved)
    tracker.validate()
    return tracks


def seen(tracks: list[Track]) -> dict[int, State]:
    return {track.id: track.state for track in tracks}


def walk(tracker: Tracker, frames: int = 10, speed: float = 50.0, dt: float = 0.1) -> None:
    """One person walks to the right from x = 100; the last frame is at t = (frames - 1) · dt."""
    for frame in range(frames):
        look(tracker, frame * dt, at(100 + speed * frame * dt))


def test_a_track_from_its_first_detection_to_its_end() -> None:
    tracker = Tracker(Settings(max_lost_s=0.25))
    assert look(tracker, 0.0) == []
    assert seen(look(tracker, 0.1, at(100))) == {1: State.TENTATIVE}
    (track,) = look(tracker, 0.2, at(105, score=0.7))
    assert (track.id, track.state, track.box, track.label) == (1, State.CONFIRMED, (95, 80, 115, 120), "person")
    assert (track.score, track.age_s, track.last_seen) == (0.7, pytest.approx(0.1), 0.2)
    assert (track.detection, track.predicted) == (0, False)
    assert track.velocity[0] > 10
    (track,) = look(tracker, 0.3)
    assert (track.state, track.predicted, track.last_seen, track.detection) == (State.LOST, True, 0.2, None)
    assert track.box[0] > 95  # it goes on
    assert seen(look(tracker, 0.44)) == {1: State.LOST}
    (track,) = look(tracker, 0.46)
    assert (track.id, track.state, track.last_seen) == (1, State.REMOVED, 0.2)
    assert look(tracker, 0.5) == []


def test_a_flash_is_never_confirmed() -> None:
    tracker = Tracker()
    assert seen(look(tracker, 0.0, at(100))) == {1: State.TENTATIVE}
    assert seen(look(tracker, 0.1, at(300))) == {1: State.REMOVED, 2: State.TENTATIVE}
    assert seen(look(tracker, 0.2, at(300))) == {2: State.CONFIRMED}


def test_a_new_track_takes_a_low_score_that_no_known_one_takes() -> None:
    tracker = Tracker()
    look(tracker, 0.0, at(100))
    assert seen(look(tracker, 0.1, at(100, score=0.2))) == {1: State.CONFIRMED}
    look(tracker, 0.2, at(100), at(112))
    assert seen(look(tracker, 0.3, at(108, score=0.2))) == {1: State.CONFIRMED, 2: State.REMOVED}


def test_a_sure_detection_is_confirmed_at_once() -> None:
    assert seen(look(Tracker(), 0.0, at(100, score=0.9), at(200, score=0.89))) == {
        1: State.CONFIRMED,
        2: State.TENTATIVE,
    }


def test_a_lost_track_needs_more_overlap() -> None:
    """Boxes of 20×40, in a margin of a tenth 24×48: shifted by 15 they overlap by 9 / 39 = 0.23."""
    tracker = Tracker(SURE)
    look(tracker, 0.0, at(100))
    assert seen(look(tracker, 0.0, at(115))) == {1: State.CONFIRMED}
    tracker = Tracker(SURE)
    look(tracker, 0.0, at(100))
    look(tracker, 0.0)
    assert seen(look(tracker, 0.0, at(115))) == {1: State.LOST, 2: State.CONFIRMED}


def test_two_people_cross() -> None:
    tracker = Tracker()
    for frame in range(21):
        t = frame * 0.1
        tracks = look(tracker, t, at(100 + 10 * frame), at(300 - 10 * frame, 108))
    assert [(track.id, track.box[0] + 10) for track in tracks] == [(1, 300), (2, 100)]
    assert tracks[0].velocity[0] == pytest.approx(100, abs=10)
    assert tracks[1].velocity[0] == pytest.approx(-100, abs=10)


def test_low_scores_carry_a_track_through_an_occlusion() -> None:
    tracker = Tracker(Settings(max_lost_s=0.3))
    walk(tracker)
    for frame in range(10, 20):  # longer than max_lost_s
        (track,) = look(tracker, frame * 0.1, at(100 + 5 * frame, score=0.2))
        assert (track.id, track.state, track.score) == (1, State.CONFIRMED, 0.2)


def test_a_low_score_begins_no_track_and_takes_none_from_a_high_one() -> None:
    tracker = Tracker(SURE)
    assert look(tracker, 0.0, at(100, score=0.3)) == []
    assert seen(look(tracker, 0.1, at(100))) == {1: State.CONFIRMED}
    (track,) = look(tracker, 0.2, at(100, score=0.3), at(104, score=0.6))
    assert track.detection == 1
    (track,) = look(tracker, 0.3, at(100, score=0.05))  # below low_score
    assert track.state is State.LOST


@pytest.mark.parametrize(("gap", "ids"), [(0.9, [1]), (1.1, [1, 2])])
def test_found_again_within_max_lost_s_and_after(gap: float, ids: list[int]) -> None:
    tracker = Tracker()
    walk(tracker)
    tracks = look(tracker, 0.9 + gap, at(100 + 50 * (0.9 + gap)))
    assert [track.id for track in tracks] == ids
    assert tracks[0].state is (State.CONFIRMED if gap < 1 else State.REMOVED)


def test_dropped_frames_change_nothing() -> None:
    """A walker of 250 pixels/s, boxes 20 wide: without real time no box of theirs would overlap."""
    tracker = Tracker()
    times = [0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.6, 0.64, 1.2, 1.6, 1.64]
    for t in times:
        tracks = look(tracker, t, at(100 + 250 * t))
    assert seen(tracks) == {1: State.CONFIRMED}
    assert tracks[0].velocity[0] == pytest.approx(250, rel=0.05)


def test_frames_without_detection_are_predicted() -> None:
    tracker = Tracker()
    walk(tracker)
    (track,) = tracker.predict_to(1.1)
    tracker.validate()
    assert (track.state, track.predicted, track.last_seen) == (State.CONFIRMED, True, 0.9)
    assert track.box == pytest.approx((145, 80, 165, 120), abs=2)
    assert seen(look(tracker, 1.4, at(170))) == {1: State.CONFIRMED}
    assert seen(tracker.predict_to(2.4)) == {1: State.CONFIRMED}
    assert seen(tracker.predict_to(2.41)) == {1: State.REMOVED}


@pytest.mark.parametrize(("noise", "least"), [(0.02, 155), (Noise().flow, 140)])
def test_motion_of_the_image_moves_predicted_boxes(noise: float, least: float) -> None:
    tracker = Tracker(Settings(confirm_hits=1, noise=Noise(flow=noise)))
    look(tracker, 0.0, at(100))
    for frame in range(1, 6):  # nobody knows yet how fast it is: without motion it would stay at 100
        (track,) = tracker.predict_to(frame * 0.1, {1: np.array([12.0, 0, 0, 0]), 7: np.zeros(4)})
    assert track.predicted
    assert least < track.box[0] + 10 < 161
    assert tracker.predict_to(0.5, {1: np.array([99.0, 0, 0, 0])})[0].box == track.box  # no time, no motion


def test_the_same_instant_twice() -> None:
    tracker = Tracker()
    walk(tracker)
    (track,) = look(tracker, 0.9, at(145))
    assert (track.id, track.state, track.age_s) == (1, State.CONFIRMED, pytest.approx(0.9))


def test_a_clock_that_is_set_back_a_little() -> None:
    tracker = Tracker()
    walk(tracker)
    (track,) = look(tracker, 0.5, at(145))
    assert (track.id, track.age_s, track.last_seen) == (1, pytest.approx(0.9), 0.5)
    (track,) = look(tracker, 0.6, at(150))
    assert (track.id, track.age_s) == (1, pytest.approx(1.0))
    (track,) = look(tracker, 0.55)
    assert track.last_seen == pytest.approx(0.55)
    assert seen(look(tracker, 1.5, at(195))) == {1: State.CONFIRMED}


def test_a_clock_that_begins_anew_ends_all_tracks() -> None:
    tracker = Tracker(SURE)
    for frame in range(30):
        look(tracker, 100 + frame * 0.1, at(100))
    ended, new = look(tracker, 0.0, at(100))
    assert (ended.id, ended.state, ended.age_s) == (1, State.REMOVED, pytest.approx(2.9))
    assert (new.id, new.state, new.age_s) == (2, State.CONFIRMED, 0.0)


@pytest.mark.parametrize("t", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none(t: float) -> None:
    tracker = Tracker()
    with pytest.raises(ValueError, match="time of a frame"):
        tracker.update(Detections.of([]), t)
    with pytest.raises(ValueError, match="time of a frame"):
        tracker.predict_to(t)


def test_what_is_no_box_is_refused() -> None:
    tracker = Tracker(SURE)
    bad: list[Any] = [
        ([math.nan, 0, 10, 10], 0.9, "person"),
        ([0, 0, math.inf, 10], 0.9, "person"),
        ([10, 10, 0, 0], 0.9, "person"),
        ([5, 5, 5, 9], 0.9, "person"),
        ([0, 0, 10, 10], math.nan, "person"),
        ([0, 0, 10, 10], 1.5, "person"),
        ([0, 0, 10, 10], -0.1, "person"),
    ]
    (track,) = look(tracker, 0.0, *bad, at(100))
    assert (track.detection, tracker.refused) == (7, 7)
    assert seen(look(tracker, 0.1, *bad)) == {1: State.LOST}


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="detections"):
        Detections(np.zeros((2, 4)), np.zeros(1), np.zeros(2, object))


def test_a_thousand_detections_are_bounded() -> None:
    tracker = Tracker(Settings(confirm_hits=1, max_objects=100))
    crowd = [at(30.0 * (n % 40), 50.0 * (n // 40), 0.5 + n / 2500) for n in range(1000)]
    tracks = look(tracker, 0.0, *crowd)
    assert len(tracks) == 100
    assert {track.detection for track in tracks} == set(range(900, 1000))  # the best
    assert len(look(tracker, 0.1, *crowd[:900])) == 100  # others find no room
    assert seen(look(tracker, 0.2, *crowd))[tracks[0].id] is State.CONFIRMED


def test_a_track_keeps_to_its_label() -> None:
    tracker = Tracker(SURE)
    look(tracker, 0.0, at(100, label="car"))
    tracks = look(tracker, 0.1, at(100, label="truck"))
    assert [(track.id, track.label, track.state) for track in tracks] == [
        (1, "car", State.LOST),
        (2, "truck", State.CONFIRMED),
    ]


def test_without_labels_the_largest_sum_of_scores_names_a_track() -> None:
    tracker = Tracker(Settings(confirm_hits=1, per_label=False))
    labels = []
    for frame, (label, score) in enumerate([("truck", 0.6), ("car", 0.9), ("truck", 0.5), ("car", 0.5)]):
        (track,) = look(tracker, frame * 0.1, at(100, label=label, score=score))
        labels.append(track.label)
    assert labels == ["truck", "car", "truck", "car"]  # sums: 0.6 · 0.6, 0.9 · 1.1, 0.9 · 1.1, 1.4
    assert seen(look(tracker, 9.0)) == {1: State.REMOVED}
    tracker.validate()


def test_whether_labels_count_changes_while_a_track_is_open() -> None:
    tracker = Tracker(Settings(confirm_hits=1))
    labels = []
    looks = [(True, "car", 0.6), *[(False, "truck", 0.5)] * 2, (True, "truck", 0.5), (False, "car", 0.6)]
    for frame, (per_label, label, score) in enumerate(looks):
        tracker.settings = Settings(confirm_hits=1, per_label=per_label)
        tracker.validate()
        (track,) = look(tracker, frame * 0.1, at(100, label=label, score=score))
        tracker.validate()
        labels.append((track.id, track.label))
    # sums: car 0.6; 0.6 · 0.5; 0.6 · 1.0; none; truck 0.5 · car 0.6
    assert labels == [(1, "car"), (1, "car"), (1, "truck"), (1, "truck"), (1, "car")]


def test_the_end_of_a_stream_ends_all() -> None:
    tracker = Tracker()
    look(tracker, 0.0, at(100), at(200))
    assert seen(tracker.end_all()) == {1: State.REMOVED, 2: State.REMOVED}
    assert tracker.end_all() == []
    assert seen(look(tracker, 0.1, at(100))) == {3: State.TENTATIVE}


@pytest.mark.parametrize(
    "wrong",
    [
        {"high_score": 1.1},
        {"low_score": 0.6},
        {"first_overlap": 0.0},
        {"second_overlap": 2.0},
        {"margin": -1.0},
        {"max_lost_s": 0.0},
        {"max_lost_s": math.nan},
        {"confirm_hits": 0},
        {"max_objects": 0},
    ],
)
def test_wrong_settings(wrong: Any) -> None:
    with pytest.raises(ValueError):
        Settings(**wrong)
