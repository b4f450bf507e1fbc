"""How nearly tracks agree with those of detection on every frame, when the detector runs on every n-th only. Pure.

The detector's results on every frame of a part of the stream are enough: a cadence of n is what the tracker makes of
those of every n-th frame. So one run of the detector measures all cadences. The CPU time of that is about 0.4 ms per
frame and cadence, 2 ms with flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hams_services.pipeline.tracking.boxes import Array
from hams_services.pipeline.tracking.bytetrack import Detections, Settings, Tracker
from hams_services.pipeline.tracking.flow import Flow, FlowSettings, Luma
from hams_services.pipeline.tracking.identity import Frame, idf1
from hams_services.pipeline.tracking.tracks import State, Track

LEAST_BOXES = 100
"""With fewer boxes in all nothing is measured: an empty scene agrees with anything."""
LEAST_DETECTIONS = 5
"""A cadence is not measured with fewer detections: their agreement would be luck."""
MARGIN_S = 1e-6
"""Times of frames differ by as much from multiples of their interval, s."""


@dataclass(frozen=True)
class Watched:
    """Successive frames of one stream, and what the detector found in each."""

    times: Sequence[float]
    """Of the media, s."""
    found: Sequence[Detections]
    """Candidates with low scores included, boxes in pixels of the frame."""
    size: tuple[int, int] = (1, 1)
    """Width and height of a frame, pixels."""
    lumas: Sequence[Luma] = ()
    """Small images for the flow (:func:`flow.small`); empty: boxes go on as before."""
    changed: Sequence[Detections] = ()
    """What the detector found in the same frames changed a little (±1 grey level, JPEG 90); empty: not looked for."""

    def __post_init__(self) -> None:
        lengths = {len(self.found), len(self.lumas) or len(self.found), len(self.changed) or len(self.found)}
        if lengths != {len(self.times)}:
            raise ValueError("times, detections and images are of the same frames")

    @property
    def interval_s(self) -> float:
        """Between two frames, median, s; 0 of fewer than two."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0


@dataclass(frozen=True)
class Following:
    """How the stream's tracks are made and shown."""

    settings: Settings = field(default_factory=Settings)
    shown_lost_s: float = 0.3
    """A track that the detector misses is still shown so long; at least until the second detection after it."""
    flow: FlowSettings = field(default_factory=FlowSettings)


def agreement_by_cadence(
    watched: Watched, cadences: Iterable[int], following: Following | None = None
) -> dict[int, float]:
    """Return IDF1 of the tracks with detection on every n-th frame against those with it on each, by n.

    Where detections of changed frames are given, it is in parts of the IDF1 of these, at most 1: no cadence agrees more
    than a change that nobody sees. On OpenCV's vtest.avi that ceiling is 0.892, and without it even a cadence of 2
    (0.907 with flow) would not reach 0.95.

    What there is too little of to measure is left out: cadences with fewer than `LEAST_DETECTIONS` detections, and all
    of them where the tracks have fewer than `LEAST_BOXES` boxes. A caller measures those again later.
    """
    reference = follow(watched, 1, following)
    if sum(len(ids) for ids, _ in reference) < LEAST_BOXES:
        return {}
    wanted = sorted({n for n in cadences if 1 < n <= len(watched.times) // LEAST_DETECTIONS})
    ceiling = 1.0
    if watched.changed:
        ceiling = idf1(reference, follow(replace(watched, found=watched.changed), 1, following))
    found = {n: idf1(reference, follow(watched, n, following)) for n in wanted}
    return {n: min(one / ceiling, 1.0) for n, one in found.items()} if ceiling > 0 else {}


def follow(watched: Watched, every: int, following: Following | None = None) -> list[Frame]:
    """Return the tracks that are shown in each frame, detected on every n-th frame or predicted."""
    how = following or Following()
    tracker, flow = Tracker(how.settings), Flow(how.flow)
    tracks: list[Track] = []
    shown: list[Frame] = []
    lost_s = how.shown_lost_s if every == 1 else max(how.shown_lost_s, (every + 1) * watched.interval_s)
    for number, t in enumerate(watched.times):
        moved = _moved(flow, watched.lumas[number], tracks, watched.size) if watched.lumas else {}
        tracks = tracker.predict_to(t, moved) if number % every else tracker.update(watched.found[number], t, moved)
        shown.append(_shown(tracks, t, lost_s))
    return shown


def _moved(flow: Flow, luma: Luma, tracks: list[Track], size: tuple[int, int]) -> dict[int, Array]:
    """Return how far the boxes of the last frame moved, of tracks that are not lost."""
    live = [track for track in tracks if track.state in (State.TENTATIVE, State.CONFIRMED)]
    boxes = np.array([track.box for track in live], np.float64).reshape(-1, 4)
    steps, known = flow.step(luma, boxes, size)
    return {track.id: step for track, step, good in zip(live, steps, known, strict=True) if good}


def _shown(tracks: list[Track], t: float, lost_s: float) -> Frame:
    shown = [
        track
        for track in tracks
        if track.state is State.CONFIRMED or (track.state is State.LOST and t - track.last_seen <= lost_s + MARGIN_S)
    ]
    return [track.id for track in shown], np.array([track.box for track in shown], np.float64).reshape(-1, 4)
