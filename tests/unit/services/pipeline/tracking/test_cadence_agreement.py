"""What cadences do to tracks, on scenes whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hams_services.pipeline.tracking.cadence_agreement import (
    LEAST_BOXES,
    Watched,
    agreement_by_cadence,
    follow,
)
from hams_services.pipeline.tracking.identity import Frame, idf1
from hams_shared.group.work_rules import TrackSpec

FPS = 10


def scene(frames: int, *people: tuple[float, float, float]) -> Watched:
    """People as boxes of 40×80: where they begin, their highest speed in pixels/s, and the period in which they walk to
    and fro, s (0: straight on)."""
    found = []
    for number in range(frames):
        t, boxes = number / FPS, []
        for row, (left, speed, period) in enumerate(people):
            x = left + speed * (t if not period else period / math.tau * math.sin(math.tau * t / period))
            boxes.append({"box": [x, 100.0 * row, x + 40, 100.0 * row + 80], "score": 0.95, "label": "person"})
        found.append(boxes)
    return Watched([number / FPS for number in range(frames)], found, (640, 480))


@pytest.mark.parametrize(("pause", "ids"), [(0.1, [1, 2]), (0.5, [1])])
def test_objects_may_go_further_where_the_detector_pauses(pause: float, ids: list[int]) -> None:
    """Boxes of 40×80 shifted by 35: with a margin of 0.1 they overlap by 13 / 83 = 0.16, with 0.2 by 21 / 91 = 0.23."""
    found = [[{"box": [x, 0.0, x + 40, 80.0], "score": 0.95, "label": "person"}] for x in (100.0, 135.0)]
    assert follow(Watched([0.0, pause], found), 1)[1][0] == ids


def test_who_walks_straight_agrees_at_any_cadence() -> None:
    found = agreement_by_cadence(scene(200, (0, 20, 0), (100, -5, 0)), (2, 5, 10))
    assert list(found) == [2, 5, 10]
    assert all(agreement > 0.9 for agreement in found.values())


def test_who_turns_often_agrees_less_at_larger_cadences() -> None:
    found = agreement_by_cadence(scene(400, (200, 120, 1.7), (300, -90, 2.3)), (2, 5, 20))
    assert found[2] > 2 * max(found[5], found[20])
    assert max(found[5], found[20]) < 0.3


def test_the_image_helps_where_people_turn() -> None:
    random = np.random.default_rng(0)
    texture = np.kron(random.integers(0, 255, (10, 5), np.uint8), np.ones((8, 8), np.uint8))
    watched = scene(120, (200, 80, 4.0))
    lumas = []
    for one in watched.found:
        luma = np.full((480, 640), 90, np.uint8)
        x, y = round(one[0]["box"][0]), int(one[0]["box"][1])
        luma[y : y + 80, x : x + 40] = texture
        lumas.append(luma)
    with_flow = Watched(watched.times, watched.found, watched.size, lumas)
    plain, flow = (agreement_by_cadence(one, (6,))[6] for one in (watched, with_flow))
    assert plain < 0.3
    assert flow > 0.7


def test_what_is_too_little_is_not_measured() -> None:
    assert agreement_by_cadence(scene(60), (2, 5)) == {}  # nobody is there
    assert agreement_by_cadence(scene(LEAST_BOXES - 1, (0, 5, 0)), (2,)) == {}
    assert list(agreement_by_cadence(scene(LEAST_BOXES, (0, 5, 0)), (1, 2, 20, 21))) == [2, 20]
    assert agreement_by_cadence(scene(0), (2,)) == {}


def test_what_changed_frames_lose_is_not_the_fault_of_a_cadence() -> None:
    """In the changed frames nothing is found for two seconds of four, so that tracks begin anew."""
    watched = scene(400, (200, 120, 1.7), (300, -90, 2.3))
    changed = [one if number % 40 < 20 else [] for number, one in enumerate(watched.found)]
    plain = agreement_by_cadence(watched, (2,))
    fair = agreement_by_cadence(Watched(watched.times, watched.found, watched.size, (), changed), (2,))
    assert plain[2] < 0.95
    assert fair[2] == 1.0
    with pytest.raises(ValueError, match="same frames"):
        Watched(watched.times, watched.found, watched.size, (), changed[1:])


def test_a_lost_track_is_shown_until_the_detector_had_two_chances() -> None:
    watched = scene(100, (0, 10, 0))
    for number in range(50, 100):
        watched.found[number] = []  # type: ignore[index]
    spec = TrackSpec(shown_lost_s=0.1)
    seen = [sum(len(ids) > 0 for ids, _ in follow(watched, every, spec)[50:]) for every in (1, 5)]
    assert seen == [1, 3]  # the last detections were at 49, and at 45: 1.5 pauses of 5 frames later it is gone


def test_frames_and_images_are_of_one_number() -> None:
    with pytest.raises(ValueError, match="same frames"):
        Watched([0.0], [])
    with pytest.raises(ValueError, match="same frames"):
        Watched([0.0], [[]], (1, 1), [np.zeros((2, 2), np.uint8)] * 2)


def frame(*found: tuple[int, float]) -> Frame:
    return [id for id, _ in found], np.array([[x, 0, x + 10, 10] for _, x in found], np.float64).reshape(-1, 4)


@pytest.mark.parametrize(
    ("reference", "tracks", "value"),
    [
        ([[(1, 0.0)]] * 4, [[(7, 0.0)]] * 4, 1.0),
        ([[(1, 0.0)]] * 4, [[(7, 0.0)]] * 3 + [[(8, 0.0)]], 0.75),
        ([[(1, 0.0)]] * 4, [[(7, 4.0)]] * 4, 0.0),  # an overlap of 0.43
        ([[(1, 0.0)]] * 4, [[(7, 0.0)], [], [(7, 0.0)], []], 2 * 2 / 6),
        ([[]] * 2, [[]] * 2, 0.0),
    ],
)
def test_idf1_by_hand(reference: list, tracks: list, value: float) -> None:
    assert idf1([frame(*one) for one in reference], [frame(*one) for one in tracks]) == pytest.approx(value)
