"""The tracks of one stream, from what its detector finds in some frames, as objects of results. Pure.

A result has the confirmed tracks, where they were detected or should be (`predicted`); not those that the detector saw
only once, and lost ones for `shown_lost_s` only. Time does not pass for tracks while the stream's gate leaves frames
out: nothing moves then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hams_services.pipeline.luma import Luma
from hams_services.pipeline.tracking.boxes import Array, iou
from hams_services.pipeline.tracking.bytetrack import Detections, Settings, Tracker
from hams_services.pipeline.tracking.cadence import Cadence
from hams_services.pipeline.tracking.flow import Flow
from hams_services.pipeline.tracking.tracks import State, Track
from hams_services.pipeline.tracking.trial import Trial
from hams_shared.group.work_rules import CadenceSpec, TrackSpec

LATER = 1.5
"""Tracks outlive the pause between two looks of the detector by this part of it, beside their time."""
MARGIN_PER_S, LARGEST_MARGIN = 1.0, 0.2
"""The tracker's margin grows with the pause, since objects go further meanwhile: in parts of a box's sides, for each
second. docs/benchmarks.md has what it gives."""
LIVE = (State.TENTATIVE, State.CONFIRMED)


class Follower:
    """Follows the objects of one stream."""

    def __init__(self, spec: TrackSpec, cadence: CadenceSpec | None) -> None:
        self.spec = spec
        self.cadence = Cadence(cadence or CadenceSpec(frames=1))
        self.trial = Trial(spec, cadence) if cadence is not None and cadence.max else None
        """Of how often the detector must look, until that is known."""
        self.agreement: dict[int, float] = {}
        """What the trial gave: by cadence, IDF1 of its tracks with those of detection on every frame."""
        self._tracker = Tracker(settings_of(spec))
        self._margin = self._tracker.settings.margin
        self._flow = Flow() if spec.motion == "flow" else None
        self._tracks: list[Track] = []
        self._looked: float | None = None
        self._pause = 0.0
        """Of the two last looks of the detector, or since the last one, s."""
        self._paused_s = 0.0
        self._paused_before: dict[int, float] = {}
        """By track: how long frames were left out before it began, in all."""
        self.ended: list[Track] = []
        """Tracks that ended with the newest frame."""

    def change(self, spec: TrackSpec) -> None:
        """Follow by `spec` from the next frame on; tracks stay."""
        if spec == self.spec:
            return
        self.spec, self._tracker.settings = spec, settings_of(spec)
        self._margin = self._tracker.settings.margin
        self._flow = (self._flow or Flow()) if spec.motion == "flow" else None

    def look_by(self, spec: TrackSpec, cadence: CadenceSpec | None) -> None:
        """Have the detector look by another `cadence`; what was measured for another one begins again."""
        if (wanted := cadence or CadenceSpec(frames=1)) == self.cadence.spec:
            return
        self.cadence.change(wanted)
        self.trial = Trial(spec, wanted) if wanted.max else None
        self.agreement = {}

    @property
    def tracks(self) -> list[Track]:
        """All tracks of the newest frame, those that ended with it too."""
        found = {track.id: track for track in (*self._tracks, *self.ended)}
        if not self._paused_s:
            return list(found.values())
        return [track._replace(age_s=self._age_s(track)) for track in found.values()]

    def _age_s(self, track: Track) -> float:
        """The age of a track, in which time has passed while frames were left out, too."""
        return track.age_s + self._paused_s - self._paused_before.get(track.id, self._paused_s)

    @property
    def looks_at_pixels(self) -> bool:
        """Whether it needs a small image of each frame."""
        return self._flow is not None

    def follow(
        self,
        found: Sequence[dict[str, Any]] | None,
        t: float,
        size: tuple[int, int],
        luma: Luma | None = None,
        paused_s: float = 0.0,
    ) -> list[dict[str, Any]]:
        """Take the next frame; return its objects by track.

        Args:
            found: what the detector found, those for the tracker only marked `low`; None: it did not look.
            t: the frame's media time, s.
            size: its width and height, pixels.
            luma: a small image of it, where one is needed.
            paused_s: how long frames were left out before it, in all, since nothing moved.
        """
        self._paused_s, t = paused_s, t - paused_s
        moved = self._moved(luma, size)
        self._pauses(t, looks=found is not None)
        if found is None:
            self._tracks = self._tracker.predict_to(t, moved)
            self._end(self._tracks)
            return [self._object(track, None) for track in self._tracks if self._shown(track, t)]
        if self.trial is not None:
            self.trial.watch(found, t, size, luma)
        expected: list[Track] = []
        if self.cadence.spec.auto:
            expected, moved = self._tracker.predict_to(t, moved), {}
        self._tracks = self._tracker.update(self._detections(found), t, moved)
        self._end([*expected, *self._tracks])
        if self.cadence.spec.auto:
            self.cadence.looked(self._tracks, _agreement(expected, self._tracks, found))
        return [
            self._object(track, None if track.detection is None else found[track.detection])
            for track in self._tracks
            if self._shown(track, t)
        ]

    def end_all(self) -> None:
        """End all tracks: what the next frame shows is new."""
        self._tracker.end_all()
        self._tracks, self.ended = [], []
        self._paused_before.clear()

    def tried(self, agreement: dict[int, float]) -> None:
        """Take what the trial gave; where that is nothing, it begins again."""
        if self.trial is None:
            return
        if not agreement:
            self.trial.clear()
            return
        self.agreement, self.cadence.frames = agreement, self.cadence.spec.chosen(agreement)
        self.trial = None

    def _end(self, tracks: Sequence[Track]) -> None:
        self.ended = [track for track in tracks if track.state is State.REMOVED]
        for track in self.ended:
            self._paused_before.pop(track.id, None)

    def _pauses(self, t: float, *, looks: bool) -> None:
        """Let tracks live as much longer as the detector pauses, and be found further away."""
        since = 0.0 if self._looked is None else max(t - self._looked, 0.0)
        if looks:
            self._looked, self._pause = t, since
        self._pause = max(self._pause, since)
        lives_s = self.spec.max_lost_s + LATER * self._pause
        settings = self._tracker.settings
        if abs(lives_s - settings.max_lost_s) > 0.01:
            margin = min(max(MARGIN_PER_S * self._pause, self._margin), LARGEST_MARGIN)
            self._tracker.settings = replace(settings, max_lost_s=min(lives_s, 3600.0), margin=margin)

    def _detections(self, found: Sequence[dict[str, Any]]) -> Detections:
        high = self._tracker.settings.high_score
        # Tasks have thresholds of their own; the tracker's is moved to where they are.
        scores = [min(one["score"], high - 1e-6) if one.get("low") else max(one["score"], high) for one in found]
        return Detections.of([(one["box"], score, one["label"]) for one, score in zip(found, scores, strict=True)])

    def _moved(self, luma: Luma | None, size: tuple[int, int]) -> dict[int, Array]:
        """Return how far the boxes of the last frame have moved, of tracks that are not lost."""
        if self._flow is None or luma is None:
            return {}
        live = [track for track in self._tracks if track.state in LIVE]
        boxes = np.array([track.box for track in live], np.float64).reshape(-1, 4)
        steps, known = self._flow.step(luma, boxes, size)
        return {track.id: step for track, step, good in zip(live, steps, known, strict=True) if good}

    def _shown(self, track: Track, t: float) -> bool:
        shown_s = max(self.spec.shown_lost_s, LATER * self._pause)
        lost = track.state is State.LOST and t - track.last_seen <= shown_s + 1e-6
        return lost or track.state is State.CONFIRMED

    def _object(self, track: Track, detection: dict[str, Any] | None) -> dict[str, Any]:
        """Return a track as an object of a result; `detection` is what it took in this frame."""
        self._paused_before.setdefault(track.id, self._paused_s)
        if detection is not None:
            one = {key: value for key, value in detection.items() if key != "low"}
        else:
            one = {"box": [round(v, 2) for v in track.box], "score": round(track.score, 4), "label": track.label}
        one |= {
            "track": track.id,
            "age_s": round(self._age_s(track), 3),
            "velocity": [round(v, 1) for v in track.velocity],
        }
        if detection is None:
            one["predicted"] = True
        return one


def settings_of(spec: TrackSpec) -> Settings:
    """Return the tracker's settings."""
    return replace(
        Settings(),
        low_score=min(spec.low_score, Settings().high_score),
        max_lost_s=spec.max_lost_s,
        confirm_hits=spec.confirm_hits,
        confirm_score=spec.confirm_score,
        per_label=spec.per_label,
        max_objects=spec.max_objects,
    )


def _agreement(expected: Sequence[Track], tracks: Sequence[Track], found: Sequence[dict[str, Any]]) -> list[float]:
    """Return the overlap (IoU) of each detection with the box in which its track was expected."""
    before = {one.id: one.box for one in expected}
    return [
        float(iou(np.array([before[one.id]]), np.array([found[one.detection]["box"]], np.float64))[0, 0])
        for one in tracks
        if one.detection is not None and one.id in before
    ]
