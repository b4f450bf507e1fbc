"""Whatever is detected, whenever: each track is born once and ends once, and no two have the same detection."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hams_services.pipeline.tracking.bytetrack import Detections, Settings, Tracker
from hams_services.pipeline.tracking.tracks import State, Track

NUMBERS = st.one_of(st.integers(0, 60).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -1e9, 1e6]))
SIDES = st.sampled_from([0.0, 0.5, 1.0, 8.0, 8.0, 20.0])
SCORES = st.sampled_from([0.0, 0.2, 0.5, 0.9, 0.9, 1.0, 2.0, math.nan])
LABELS = st.sampled_from(["car", "car", "truck"])


@st.composite
def detection(draw: st.DrawFn) -> tuple[list[float], float, str]:
    x, y = draw(NUMBERS), draw(NUMBERS)
    return [x, y, x + draw(SIDES), y + draw(SIDES)], draw(SCORES), draw(LABELS)


class TrackingMachine(RuleBasedStateMachine):
    @initialize(hits=st.integers(1, 3), per_label=st.booleans(), most=st.sampled_from([2, 256]))
    def start(self, hits: int, per_label: bool, most: int) -> None:
        settings = Settings(confirm_hits=hits, per_label=per_label, max_objects=most, max_lost_s=0.5)
        self.tracker = Tracker(settings)
        self.t = 0.0
        self.open: dict[int, State] = {}
        self.ended: set[int] = set()

    def take(self, tracks: list[Track], detections: int, *, looked: bool) -> None:
        assert [track.id for track in tracks] == sorted({track.id for track in tracks})
        taken = [track.detection for track in tracks if track.detection is not None]
        assert len(set(taken)) == len(taken)
        assert all(0 <= one < detections for one in taken)
        before = dict(self.open)
        for track in tracks:
            assert track.id not in self.ended, "it ended before"
            assert np.isfinite(track.box).all()
            assert track.box[0] < track.box[2]
            assert track.age_s >= -1e-9
            if track.state is State.REMOVED:
                self.ended.add(track.id)
                del self.open[track.id]
                continue
            if track.id not in before:
                assert looked, "born without a detection"
                assert track.id > max([*before, *self.ended, 0]), "an id is given again"
            assert before.get(track.id) in (None, track.state) or track.state is not State.TENTATIVE
            self.open[track.id] = track.state
        assert set(self.open) == {track.id for track in tracks if track.state is not State.REMOVED}, "one was forgotten"

    @rule(found=st.lists(detection(), max_size=6), dt=st.sampled_from([0.0, 0.04, 0.3, 0.7, -0.2, -5.0]))
    def update(self, found: list[Any], dt: float) -> None:
        self.t += dt
        self.take(self.tracker.update(Detections.of(found), self.t), len(found), looked=True)

    @rule(dt=st.sampled_from([0.0, 0.04, 0.3, 0.7, -0.2, -5.0]), x=st.floats(-50, 50), data=st.data())
    def predict(self, dt: float, x: float, data: st.DataObject) -> None:
        self.t += dt
        some = data.draw(st.sets(st.integers(1, 20), max_size=4))
        self.take(self.tracker.predict_to(self.t, {id: np.array([x, 1, 0, -1]) for id in some}), 0, looked=False)

    @rule(per_label=st.booleans())
    def change(self, per_label: bool) -> None:
        """The group is deployed with another setting; its tracks go on."""
        self.tracker.settings = replace(self.tracker.settings, per_label=per_label)

    @rule()
    def end(self) -> None:
        before = set(self.open)
        tracks = self.tracker.end_all()
        self.take(tracks, 0, looked=False)
        assert {track.id for track in tracks} == before

    @invariant()
    def valid(self) -> None:
        if hasattr(self, "tracker"):
            self.tracker.validate()
            assert len(self.tracker) == len(self.open)


TestTracking = TrackingMachine.TestCase
TestTracking.settings = settings(stateful_step_count=25)


@given(st.lists(st.tuples(st.lists(detection(), max_size=6), st.randoms(use_true_random=False)), max_size=6))
def test_the_order_of_detections_does_not_matter(frames: list[tuple[list[Any], Any]]) -> None:
    one, other = Tracker(Settings(per_label=False)), Tracker(Settings(per_label=False))
    for frame, (found, random) in enumerate(frames):
        mixed = random.sample(found, len(found))
        a = one.update(Detections.of(found), frame * 0.1)
        b = other.update(Detections.of(mixed), frame * 0.1)
        assert [track._replace(detection=None) for track in a] == [track._replace(detection=None) for track in b]
        assert [track.detection is None or found[track.detection] for track in a] == [
            track.detection is None or mixed[track.detection] for track in b
        ]
