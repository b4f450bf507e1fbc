"""Who is who in the pipeline's memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.gallery import DAY_S, Gallery, galleries_of, identify
from hams_services.pipeline.gallery_tracks import DOUBTS, SETTLE, SETTLE_S, TRACKS, Sighting, Tracks
from hams_shared.group.node_spec import GallerySpec
from hams_shared.group.spec import parse_group
from hams_shared.wire.frames import FrameId
from hams_shared.wire.messages.gallery import Identity


def unit(*degrees: float) -> np.ndarray:
    """Vectors of the plane, so that the cosine of two is that of the angle between them."""
    angles = np.radians(degrees)
    return np.column_stack((np.cos(angles), np.sin(angles)))


def frame_id(frame: int = 0, stream: str = "s", group: str = "g") -> FrameId:
    return FrameId(group, stream, frame, 0, 1, 0.0)


def seen(track: int, frame: int, age_s: float = 0.0, stream: str = "s") -> Sighting:
    return Sighting((stream, "r1", track), frame, age_s)


def test_the_same_come_back_under_their_number() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    assert gallery.identify(unit(0, 90)) == [(0, 1.0), (1, 1.0)]
    (second, cosine), (first, _) = gallery.identify(unit(85, 5))
    assert (second, first) == (1, 0)
    assert cosine == pytest.approx(np.cos(np.radians(5)))
    assert gallery.identify(unit(45)) == [(2, 1.0)]


def test_nobody_is_in_a_picture_twice() -> None:
    gallery = Gallery(GallerySpec(threshold=0.5))
    gallery.identify(unit(0))
    assert [name for name, _ in gallery.identify(unit(10, 2))] == [1, 0]  # the nearer one is it


def test_what_is_known_follows_slowly() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9, update=0.5))
    gallery.identify(unit(0))
    for angle in (20, 35, 47, 58, 70):
        assert [name for name, _ in gallery.identify(unit(angle))] == [0], angle
    still = Gallery(GallerySpec(threshold=0.9, update=0.0))
    still.identify(unit(0))
    assert [name for a in (20, 35) for name, _ in still.identify(unit(a))] == [0, 1]


def test_looking_up_does_not_remember() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    assert gallery.identify(unit(0), learn=False) == [(None, 0.0)]
    gallery.identify(unit(0))
    ((name, cosine),) = gallery.identify(unit(60), learn=False)
    assert name is None
    assert cosine == pytest.approx(0.5)
    assert len(gallery) == 1


@given(st.lists(st.lists(st.integers(0, 359), min_size=1, max_size=5), max_size=20), st.integers(1, 4))
def test_it_stays_within_its_capacity_and_numbers_are_never_used_again(frames: list[list[int]], capacity: int) -> None:
    gallery = Gallery(GallerySpec(threshold=0.99, capacity=capacity))
    newest = -1
    for frame in frames:
        names = [name for name, _ in gallery.identify(unit(*frame))]
        assert len(set(names)) == len(names)
        for name in names:
            assert name is not None
            assert name <= newest + len(frame)
        newest = max(newest, *(name for name in names if name is not None))
        assert len(gallery) <= capacity


@pytest.mark.parametrize("asked", [{"threshold": 2}, {"threshhold": 0.5}, 5, "yes"])
def test_a_gallery_asked_for_wrongly_does_not_end_the_pipeline(asked: Any) -> None:
    node = {"model": "/m.onnx", "input": {"size": [8, 8]}, "task": {"type": "embedding", "gallery": asked}}
    assert galleries_of(parse_group({"name": "g", "nodes": {"who": node}})) == {}


@pytest.mark.parametrize("vector", [[], None, "x", [[1.0]], ["a"], [math.nan, 1.0]])
def test_what_is_no_vector_is_not_identified(vector: Any) -> None:
    galleries = {"who": Gallery(GallerySpec())}
    objects = [
        {"box": [0, 0, 1, 1], "who": {"embedding": vector}},
        {"box": [0, 0, 1, 1], "who": {"embedding": [1.0, 0.0]}},
    ]
    identify(galleries, objects, frame_id(), 0.0, learn=True)
    assert "identity" not in objects[0]["who"]
    assert objects[1]["who"]["identity"] == 0
    other = [{"who": {"embedding": [1.0]}}, {"who": {"embedding": [1.0, 0.0]}}]
    identify(galleries, other, frame_id(), 0.0, learn=True)
    assert [one["who"].get("identity") for one in other] == [None, None]  # of other lengths: not compared
    assert galleries["who"].mismatch == 1


def test_a_frames_objects_are_identified_at_any_depth() -> None:
    def node(parent: str | None = None, **task: Any) -> dict[str, Any]:
        return {"model": "/m.onnx", "input": {"size": [8, 8]}, "parent": parent, "task": {"type": "raw", **task}}

    spec = parse_group({"name": "g", "nodes": {"a": node(), "b": node("a"), "who": node("b", gallery={})}})
    galleries = galleries_of(spec)

    def frame() -> list[dict[str, Any]]:
        inner = {"box": [0, 0, 1, 1], "who": {"embedding": [1.0, 0.0]}}
        return [{"box": [0, 0, 1, 1], "b": {"objects": [inner, {"box": [0, 0, 1, 1]}]}}]

    for _ in range(2):
        objects = frame()
        identify(galleries, objects, frame_id(), 0.0, learn=True)
        assert objects[0]["b"]["objects"][0]["who"]["identity"] == 0


# ── names, forgetting, age ────────────────────────────────────────────────────────────────────────────────────


def test_a_name_is_in_results_until_it_is_taken_away() -> None:
    galleries = {"who": Gallery(GallerySpec())}
    output: dict[str, Any] = {"embedding": [1.0, 0.0]}
    for name, shown in (("", None), ("Anna", "Anna"), ("", None)):
        galleries["who"].rename(0, name)
        identify(galleries, [{"who": output}], frame_id(), 0.0, learn=True)
        assert (output["identity"], output.get("name")) == (0, shown)
    assert not galleries["who"].rename(7, "Nobody")


def test_who_is_forgotten_comes_back_under_a_new_number_and_without_a_name() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    gallery.identify(unit(0, 90))
    gallery.rename(0, "Anna")
    assert gallery.forget([0, 5]) == 1
    assert gallery.identify(unit(0), learn=False)[0][0] is None
    assert gallery.identify(unit(0, 90)) == [(2, 1.0), (1, 1.0)]
    assert gallery.name_of(2) == ""
    assert len(gallery) == 2  # the slot that was free is used again
    assert len(gallery.vectors) == 16


@pytest.mark.parametrize(("keep_days", "left"), [(None, [0, 1, 2]), (10, [1, 2]), (1, [2]), (0.5, [])])
def test_identities_are_forgotten_by_age(keep_days: float | None, left: list[int]) -> None:
    gallery = Gallery(GallerySpec(threshold=0.9, keep_days=keep_days))
    for day, angle in ((0, 0), (15, 60), (19.4, 120)):
        gallery.identify(unit(angle), day * DAY_S)
    gallery.expire(20 * DAY_S)
    assert sorted(one.identity for one in gallery.known.values()) == left


def test_the_one_not_seen_for_longest_goes_first_and_named_ones_last() -> None:
    gallery = Gallery(GallerySpec(threshold=0.99, capacity=3))
    for now, angle in enumerate((0, 30, 60)):
        gallery.identify(unit(angle), float(now))
    gallery.rename(0, "Anna")
    gallery.identify(unit(30), 3.0)
    gallery.identify(unit(90), 4.0)
    assert sorted(one.identity for one in gallery.known.values()) == [0, 1, 3]


def test_a_lower_capacity_holds_for_those_who_come_later() -> None:
    gallery = Gallery(GallerySpec(threshold=0.99, capacity=10))
    for number in range(10):
        gallery.identify(np.eye(64)[number : number + 1], float(number))
    gallery.change(GallerySpec(threshold=0.99, capacity=5))
    for number in range(10, 20):
        gallery.identify(np.eye(64)[number : number + 1], float(number))
        assert len(gallery) == 5
    assert sorted(one.identity for one in gallery.known.values()) == [15, 16, 17, 18, 19]
    gallery.forget([17])
    gallery.identify(np.eye(64)[20:21], 20.0)  # a free slot is used before anybody goes
    assert sorted(one.identity for one in gallery.known.values()) == [15, 16, 18, 19, 20]


def test_a_capacity_holds_where_few_identities_were_stored_in_high_slots() -> None:
    gallery = Gallery(GallerySpec(threshold=0.99, capacity=3))
    known = [Identity(identity=number, since=0.0, seen=float(number)) for number in range(2)]
    gallery.fill(known, np.eye(64, dtype=np.float32)[:2], [40, 50])
    for number in range(2, 9):
        gallery.identify(np.eye(64)[number : number + 1], float(number))
        assert len(gallery) == 3
    assert sorted(one.identity for one in gallery.known.values()) == [6, 7, 8]


def test_vectors_of_another_length_are_taken_once_all_others_are_forgotten() -> None:
    gallery = Gallery(GallerySpec())
    gallery.identify(unit(0))
    three = np.eye(3)[:1]
    assert gallery.identify(three) == [(None, 0.0)]
    assert gallery.mismatch == 3
    gallery.forget([0])
    assert gallery.identify(three) == [(1, 1.0)]
    assert not gallery.mismatch


# ── tracks ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_track_is_decided_once_by_its_average_and_does_not_flip() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9, update=0.0))
    gallery.identify(unit(0, 50))
    angles = (27, 3, -3, 28, 29, 27, 50, 0)  # single crops are sometimes nearer to the second person
    answers = [gallery.identify(unit(a), sightings=[seen(1, i)])[0][0] for i, a in enumerate(angles)]
    assert answers == [None] * (SETTLE - 1) + [0] * (len(angles) - SETTLE + 1)
    loose = Gallery(GallerySpec(threshold=0.9, update=0.0))
    loose.identify(unit(0, 50))
    assert len({loose.identify(unit(a))[0][0] for a in angles}) > 1  # without tracks it flips


def test_short_tracks_leave_nothing_in_the_gallery() -> None:
    gallery = Gallery(GallerySpec())
    for frame in range(SETTLE - 1):
        assert gallery.identify(unit(0), sightings=[seen(1, frame)])[0][0] is None
    assert len(gallery) == 0


def test_one_vector_that_is_carried_on_is_taken_once_and_decides_after_a_while() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    answers = [gallery.identify(unit(0), sightings=[seen(1, 7, age)])[0][0] for age in (0.2, 0.7, 1.1, 0.2 + SETTLE_S)]
    assert answers == [None, None, None, 0]


def test_a_track_that_has_become_another_person_is_decided_anew() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9, update=0.1))
    gallery.identify(unit(0, 90))
    sightings = iter(range(100))
    for _ in range(SETTLE + 3):
        answer = gallery.identify(unit(0), sightings=[seen(1, next(sightings))])[0][0]
    assert answer == 0
    answers = [gallery.identify(unit(90), sightings=[seen(1, next(sightings))])[0][0] for _ in range(DOUBTS + SETTLE)]
    assert answers == [0] * (DOUBTS - 1) + [None] * (SETTLE - 1) + [1] * 2


def test_two_tracks_of_one_image_are_two_persons_those_of_two_streams_may_be_one() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    for frame in range(SETTLE):
        gallery.identify(unit(0), sightings=[seen(1, frame)])
        gallery.identify(unit(1), sightings=[seen(1, frame, stream="t")])
    (first, _), (second, _) = (
        gallery.identify(unit(a), sightings=[seen(1, 9, stream=s)])[0] for a, s in ((0, "s"), (1, "t"))
    )
    assert first == second == 0
    for frame in range(10, 10 + SETTLE):
        answers = gallery.identify(unit(0, 5), sightings=[seen(1, frame), seen(2, frame)])
    assert [identity for identity, _ in answers] == [0, 1]


def test_a_track_that_returns_gives_its_identity_to_the_one_more_similar() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9, update=0.0))
    for track in (1, 2):  # one after the other: the tracker lost the person
        for frame in range(SETTLE):
            gallery.identify(unit(0), sightings=[seen(track, frame + 10 * track)])
    answers = gallery.identify(unit(12, 0), sightings=[seen(1, 50), seen(2, 50)])
    assert [identity for identity, _ in answers] == [None, 0]


def test_who_is_forgotten_takes_the_averages_of_his_tracks_along() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    for frame in range(SETTLE):
        gallery.identify(unit(0), sightings=[seen(1, frame)])
    gallery.forget([0])
    assert len(gallery._tracks) == 0
    answers = [gallery.identify(unit(0), sightings=[seen(1, 10 + i)])[0][0] for i in range(SETTLE)]
    assert answers == [None] * (SETTLE - 1) + [1]


def test_tracks_are_bounded() -> None:
    tracks = Tracks()
    for number in range(TRACKS + 10):
        tracks.take(seen(number, 0), np.float32([1.0, 0.0]))
    assert len(tracks) == TRACKS


def test_objects_of_a_result_say_their_track_and_where_a_vector_is_from() -> None:
    galleries = {"who": Gallery(GallerySpec(threshold=0.9))}

    def result(frame: int, **carried: Any) -> list[dict[str, Any]]:
        who = {"embedding": [1.0, 0.0], **carried}
        return [{"box": [0, 0, 1, 1], "track": 4, "age_s": frame / 10, "who": who}, {"box": [0, 0, 1, 1], "track": 5}]

    found = []
    for frame in range(12):
        objects = result(frame, **({"from_frame": 0} if frame else {}))
        identify(galleries, objects, frame_id(frame), 0.0, learn=True)
        found.append(objects[0]["who"]["identity"])
        assert "who" not in objects[1]
    assert found == [None] * 10 + [0, 0]  # there is one vector, so its second is waited for
    assert galleries["who"].known[0].identity == 0


def test_a_track_of_another_run_is_another_track_whatever_its_number() -> None:
    """A stream that is deployed again counts its tracks from 1 again."""
    galleries = {"who": Gallery(GallerySpec(threshold=0.9))}
    galleries["who"].identify(unit(0))
    galleries["who"].rename(0, "Anna")

    def found(run: str, degrees: float, frame: int, group: str = "g", **carried: Any) -> Any:
        who = {"embedding": unit(degrees)[0].tolist(), **carried}
        one = {"box": [0, 0, 1, 1], "track": 1, "age_s": frame / 10, "who": who}
        identify(galleries, [one], frame_id(frame, group=group), 0.0, learn=True, run=run)
        return one["who"].get("name"), one["who"]["identity"]

    assert [found("r1", 0, frame) for frame in range(SETTLE)] == [(None, None)] * (SETTLE - 1) + [("Anna", 0)]
    assert found("r1", 5, SETTLE, group="g.candidate") == ("Anna", 0)  # a canary's frame is one of the stream
    before = galleries["who"].vectors[0].copy()
    assert [found("r2", 90, frame) for frame in range(SETTLE)] == [(None, None)] * (SETTLE - 1) + [(None, 1)]
    assert np.array_equal(galleries["who"].vectors[0], before)
    assert [found("r3", 0, frame, from_frame=0) for frame in range(3)] == [(None, None)] * 3  # `cadence: track`


def test_parts_of_a_tracked_object_belong_to_its_track_unless_there_are_several() -> None:
    galleries = {"who": Gallery(GallerySpec(threshold=0.9))}

    def person(*faces: list[float]) -> list[dict[str, Any]]:
        parts = [{"box": [0, 0, 1, 1], "who": {"embedding": vector}} for vector in faces]
        return [{"box": [0, 0, 9, 9], "track": 1, "face": {"objects": parts}}]

    one, two = person([1.0, 0.0]), person([1.0, 0.0], [0.0, 1.0])
    identify(galleries, one, frame_id(), 0.0, learn=True)
    identify(galleries, two, frame_id(1), 0.0, learn=True)
    assert one[0]["face"]["objects"][0]["who"]["identity"] is None
    assert [part["who"]["identity"] for part in two[0]["face"]["objects"]] == [0, 1]


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 359), st.booleans()), max_size=4, unique_by=lambda o: o[0]
        ),
        max_size=25,
    ),
    st.integers(1, 4),
    st.sets(st.integers(0, 5)),
)
def test_any_tracks_and_any_forgetting_keep_the_books(
    frames: list[list[tuple[int, int, bool]]], capacity: int, forgotten: set[int]
) -> None:
    gallery = Gallery(GallerySpec(threshold=0.95, capacity=capacity))
    for number, frame in enumerate(frames):
        if not frame:
            gallery.forget(forgotten)
            continue
        sightings = [seen(track, number) if tracked else None for track, _, tracked in frame]
        answers = gallery.identify(unit(*(angle for _, angle, _ in frame)), float(number), sightings=sightings)
        given_ = [identity for identity, _ in answers if identity is not None]
        assert len(set(given_)) == len(given_)
        assert len(gallery) <= capacity
        assert all(identity < gallery.next for identity in given_)
        lengths = np.linalg.norm(gallery.vectors, axis=1)
        assert np.allclose(lengths[sorted(gallery.known)], 1, atol=1e-5)
        assert gallery.dirty <= set(range(gallery.pages))
