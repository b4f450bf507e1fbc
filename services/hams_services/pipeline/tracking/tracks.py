"""Tracks as they are returned, and the records they are made of. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.tracking.boxes import Array
from hams_services.pipeline.tracking.kalman import KalmanBank


class State(IntEnum):
    """Where a track is in its life; see :mod:`hams_services.pipeline.tracking.bytetrack`."""

    TENTATIVE = 0
    CONFIRMED = 1
    LOST = 2
    REMOVED = 3


RECORD = np.dtype(
    [
        ("id", np.int64),
        ("state", np.int8),
        ("born", np.float64),
        ("seen", np.float64),
        ("hits", np.int64),
        ("score", np.float64),
        ("detection", np.int64),
        ("label", np.object_),
    ]
)
"""One track: times are in s of the media, `hits` detections, `detection` the index of the last one taken, or -1."""


class Track(NamedTuple):
    """One track at the time of one frame."""

    id: int
    state: State
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels: that of the detection it took, else predicted."""
    label: str
    score: float
    """Of its last detection."""
    age_s: float
    """Since its first detection, s of the media's time."""
    velocity: tuple[float, float]
    """Of the centre, pixels/s to the right and down."""
    last_seen: float
    """Media time of its last detection, s."""
    detection: int | None
    """Index of the detection that it took in this frame; None where the box is predicted."""

    @property
    def predicted(self) -> bool:
        """Return whether the box is where the object should be, not where it was detected."""
        return self.detection is None


def listed(book: NDArray[np.void], bank: KalmanBank, boxes: Array | None, t: float) -> list[Track]:
    """Return the tracks of `book` at `t`; `boxes` are those detected in this frame, None where none was looked for."""
    places, found = bank.boxes, book["detection"]
    if boxes is not None:
        rows = (found >= 0).nonzero()[0]
        places[rows] = boxes[found[rows]]
    columns = (
        book["id"].tolist(),
        [STATES[state] for state in book["state"].tolist()],
        map(tuple, places.tolist()),
        book["label"].tolist(),
        book["score"].tolist(),
        (t - book["born"]).tolist(),
        map(tuple, bank.velocity[:, :2].tolist()),
        book["seen"].tolist(),
        [at if at >= 0 else None for at in found.tolist()],
    )
    return list(map(Track, *columns))


STATES = tuple(State)
