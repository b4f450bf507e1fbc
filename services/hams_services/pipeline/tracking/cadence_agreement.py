"""How nearly tracks agree with those of detection on every frame, when the detector runs on every n-th only. Pure.

The detector's results on every frame of a part of the stream are enough: a cadence of n is what the tracker makes of
those of every n-th frame. So one run of the detector measures all cadences. The CPU time of that is about 0.4 ms per
frame and cadence, 2 ms with flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hams_services.pipeline.luma import Luma
from hams_services.pipeline.tracking.follower import Follower
from hams_services.pipeline.tracking.identity import Frame, idf1
from hams_services.pipeline.tracking.trial import Trial
from hams_shared.group.work_rules import TrackSpec

LEAST_BOXES = 100
"""With fewer boxes in all nothing is measured: an empty scene agrees with anything."""
LEAST_DETECTIONS = 5
"""A cadence is not measured with fewer detections: their agreement would be luck."""


@dataclass(frozen=True)
class Watched:
    """Successive frames of one stream, and what the detector found in each."""

    times: Sequence[float]
    """Of the media, s."""
    found: Sequence[Sequence[dict[str, Any]]]
    """Objects, those below the detector's threshold marked `low`, boxes in pixels of the frame."""
    size: tuple[int, int] = (1, 1)
    """Width and height of a frame, pixels."""
    lumas: Sequence[Luma] = ()
    """Small images for the flow (:func:`luma.small_luma`); empty: boxes go on as before."""
    changed: Sequence[Sequence[dict[str, Any]]] = ()
    """What the detector found in the same frames changed a little (±1 grey level, JPEG 90); empty: not looked for."""

    def __post_init__(self) -> None:
        lengths = {len(self.found), len(self.lumas) or len(self.found), len(self.changed) or len(self.found)}
        if lengths != {len(self.times)}:
            raise ValueError("times, detections and images are of the same frames")

    @property
    def interval_s(self) -> float:
        """Between two frames, median, s; 0 of fewer than two."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0


def tried(trial: Trial) -> dict[int, float]:
    """Return what a full trial shows: IDF1 by cadence. It takes seconds of CPU time."""
    lumas = trial.lumas if len(trial.lumas) == len(trial.times) else ()
    return agreement_by_cadence(Watched(trial.times, trial.found, trial.size, lumas), trial.cadence.steps, trial.track)


def agreement_by_cadence(watched: Watched, cadences: Iterable[int], spec: TrackSpec | None = None) -> dict[int, float]:
    """Return IDF1 of the tracks with detection on every n-th frame against those with it on each, by n.

    Where detections of changed frames are given, it is in parts of the IDF1 of these, at most 1: no cadence agrees more
    than a change that nobody sees. On OpenCV's vtest.avi that ceiling is 0.890, and without it even a cadence of 2
    (0.924 with flow) would not reach 0.95.

    What there is too little of to measure is left out: cadences with fewer than `LEAST_DETECTIONS` detections, and all
    of them where the tracks have fewer than `LEAST_BOXES` boxes. A caller measures those again later.
    """
    reference = follow(watched, 1, spec)
    if sum(len(ids) for ids, _ in reference) < LEAST_BOXES:
        return {}
    wanted = sorted({n for n in cadences if 1 < n <= len(watched.times) // LEAST_DETECTIONS})
    ceiling = 1.0
    if watched.changed:
        ceiling = idf1(reference, follow(replace(watched, found=watched.changed), 1, spec))
    found = {n: idf1(reference, follow(watched, n, spec)) for n in wanted}
    return {n: min(one / ceiling, 1.0) for n, one in found.items()} if ceiling > 0 else {}


def follow(watched: Watched, every: int, spec: TrackSpec | None = None) -> list[Frame]:
    """Return the tracks that results have in each frame, with detection on every n-th frame."""
    spec = spec or TrackSpec()
    follower = Follower(spec.model_copy(update={"motion": "flow" if watched.lumas else "boxes"}), None)
    shown: list[Frame] = []
    for number, t in enumerate(watched.times):
        found = None if number % every else watched.found[number]
        objects = follower.follow(found, t, watched.size, watched.lumas[number] if watched.lumas else None)
        boxes = np.array([one["box"] for one in objects], np.float64).reshape(-1, 4)
        shown.append(([one["track"] for one in objects], boxes))
    return shown
