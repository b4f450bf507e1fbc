"""ByteTrack: tracks of one stream from scored boxes, in two stages. Pure: `t` is an argument.

Zhang et al., *ByteTrack: Multi-Object Tracking by Associating Every Detection Box*, ECCV 2022: tracks take detections
with high scores first; what is left of them takes detections with low scores, which are mostly objects that others
hide. Only a detection with a high score begins a track. Unlike there, time is real (the media's, in s), so that frames
may be missing and the detector need not run on each of them; and new tracks take low scores, too. A small person has a
high score in one look and a low one in the next, and a detector that looks rarely would never confirm it;
docs/benchmarks.md has what that gives.

A track is *tentative* until it was detected `confirm_hits` times, without a miss; then *confirmed*; *lost* while the
detector does not find it; and *removed* for good, when it was lost for `max_lost_s`, or missed while tentative. Its id
is its own from the first detection on, and is never given again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.tracking.association import Rows, assign, overlaps
from hams_services.pipeline.tracking.boxes import Array, usable
from hams_services.pipeline.tracking.kalman import KalmanBank, Noise
from hams_services.pipeline.tracking.tracks import RECORD, State, Track, listed

UNMATCHED = -1
TENTATIVE, CONFIRMED, LOST, _ = map(int, State)  # NumPy compares with an IntEnum ten times slower


class TrackingError(AssertionError):
    """The tracker's state contradicts itself: a defect, never a condition of the outside world."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen of a tracker. Scores and overlaps are in 0..1.

    Overlaps and noises are near the best averages of a random search of 74 settings on TUD-Stadtmitte and the first
    400 frames of OpenCV's vtest.avi: single best settings differ by the luck of one or two people. `lost_overlap` and
    `confirm_score` were then chosen among three to six values with all results in view; docs/benchmarks.md has them.
    """

    high_score: float = 0.5
    """From here on a detection is taken in the first stage, and may begin a track."""
    low_score: float = 0.1
    """From here on a detection is taken in the second stage."""
    max_lost_s: float = 1.0
    """A track is removed so long after its last detection, s of the media's time: more than the detector's interval."""
    confirm_score: float = 0.9
    """From here on a new track is confirmed at once; 2 is never."""
    confirm_hits: int = 2
    """Detections until a track is confirmed: a false box rarely comes twice in one place."""
    first_overlap: float = 0.2
    """Least overlap (IoU) of a track and a detection in the first stage."""
    lost_overlap: float = 0.25
    """The same of a lost track: it drifts, and would take what appears beside it."""
    second_overlap: float = 0.4
    """The same in the second stage: a low score needs more proof."""
    margin: float = 0.1
    """Boxes grow by this part of their sides before they are compared; see :func:`association.overlaps`."""
    per_label: bool = True
    """A track takes detections of its own label only; else it has the label with the largest sum of scores."""
    max_objects: int = 256
    """Detections taken of one frame, the best first, and tracks at a time. It bounds the time of a frame."""
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= 1:
            raise ValueError("0 ≤ low_score ≤ high_score ≤ 1 does not hold")
        if not (0 < self.first_overlap <= self.lost_overlap <= self.second_overlap <= 1 and 0 <= self.margin <= 1):
            raise ValueError("0 < first_overlap ≤ lost_overlap ≤ second_overlap ≤ 1 and 0 ≤ margin ≤ 1 do not hold")
        if not (0 < self.max_lost_s <= 3600 and self.confirm_hits >= 1 and self.max_objects >= 1):
            raise ValueError("max_lost_s is in 0..3600 s, confirm_hits and max_objects are at least 1")


@dataclass(frozen=True)
class Detections:
    """What a detector found in one frame: N×4 boxes (x0, y0, x1, y1) in pixels, N scores, N labels."""

    boxes: Array
    scores: Array
    labels: NDArray[np.object_]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(f"detections are N×4 boxes, N scores and N labels, not {self.boxes.shape} and others")

    @classmethod
    def of(cls, found: Sequence[tuple[Sequence[float], float, str]]) -> Detections:
        """Return them of (box, score, label)."""
        labels = np.empty(len(found), object)
        labels[:] = [label for _, _, label in found]
        boxes = np.array([box for box, _, _ in found], np.float64).reshape(-1, 4)
        return cls(boxes, np.array([score for _, score, _ in found], np.float64), labels)

    def __len__(self) -> int:
        return len(self.boxes)


class Accepted(NamedTuple):
    """Detections that a tracker looks at, and which of those given they are."""

    given: Rows
    boxes: Array
    scores: Array
    labels: NDArray[np.object_]


class Tracker:
    """The tracks of one stream."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._bank = KalmanBank(self.settings.noise)
        self._book = np.empty(0, RECORD)
        """Of each track, in the order of the filters."""
        self._votes: dict[int, dict[str, float]] = {}
        """Sums of scores by label of each track that was detected while labels may change."""
        self._t: float | None = None
        self._next = 1
        self.refused = 0
        """Detections that were no boxes or had no score, since the start."""

    def __len__(self) -> int:
        return len(self._book)

    def update(self, detections: Detections, t: float, moved: Mapping[int, Array] | None = None) -> list[Track]:
        """Take what was detected in the frame at media time `t`, s; return all tracks, by id.

        A track that ends is among them once more, as removed. :attr:`Track.detection` is the detection that a track
        took. Detections that are no boxes (not finite, a side below one pixel) or have no score are counted in
        :attr:`refused`. The order of `detections` does not matter. `moved` is as for :meth:`predict_to`.

        A `t` equal to the last one is another look at the same instant. A `t` before the last one means that the
        media's clock was set back: by up to `max_lost_s` the tracks go on, as if no time had passed; by more, another
        time has begun, and all tracks end.

        Raises:
            ValueError: `t` is not finite.
        """
        ended = self._advance(t, moved)
        found = self._accepted(detections)
        free = self._associate(found)
        ended += self._settle()
        self._begin(found, free)
        return _by_id(ended, listed(self._book, self._bank, detections.boxes, t))

    def predict_to(self, t: float, moved: Mapping[int, Array] | None = None) -> list[Track]:
        """Return all tracks at media time `t` of a frame on which the detector did not run; all are predicted.

        `moved` is how far the boxes of tracks moved in the image since the last call, by id: cx, cy, w, h in pixels,
        see :class:`flow.Flow`. Time is as in :meth:`update`: tracks that were not detected for `max_lost_s` end.

        Raises:
            ValueError: `t` is not finite.
        """
        ended = self._advance(t, moved)
        self._book["detection"] = UNMATCHED
        return _by_id(ended, listed(self._book, self._bank, None, t))

    def end_all(self) -> list[Track]:
        """End all tracks, as removed: the stream ends, or begins anew. Ids go on."""
        return self._remove(np.ones(len(self._book), np.bool_))

    # ── steps of an update ────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, t: float, moved: Mapping[int, Array] | None) -> list[Track]:
        """Go to time `t`; return the tracks that ended on the way."""
        if not math.isfinite(t):
            raise ValueError(f"the time of a frame is {t}")
        dt = 0.0 if self._t is None else t - self._t
        ended = self.end_all() if dt < -self.settings.max_lost_s else []
        self._t = t
        if dt < 0:
            self._book["born"] += dt
            self._book["seen"] += dt
        ended += self._remove(t - self._book["seen"] > self.settings.max_lost_s)
        if dt > 0:
            if moved:
                self._move(moved, dt)
            self._bank.predict(dt)
        return ended

    def _move(self, moved: Mapping[int, Array], dt: float) -> None:
        rows = [row for row, id in enumerate(self._book["id"].tolist()) if id in moved]
        if rows:
            ids = self._book["id"][rows].tolist()
            self._bank.move(np.array(rows), np.array([moved[id] for id in ids], np.float64), dt)

    def _accepted(self, detections: Detections) -> Accepted:
        """Return the detections to look at, the best first; their order does not depend on that of `detections`."""
        boxes, scores = detections.boxes, detections.scores
        good = usable(boxes) & (scores >= 0) & (scores <= 1)
        self.refused += len(good) - int(np.count_nonzero(good))
        good &= scores >= self.settings.low_score
        keys = [*boxes.T, -scores]
        labels = detections.labels.tolist()
        if len(set(labels)) > 1:
            keys.insert(0, np.array(labels))
        index = np.lexsort(keys)
        index = index[good[index]][: self.settings.max_objects]
        return Accepted(index, boxes[index], scores[index], detections.labels[index])

    def _associate(self, found: Accepted) -> NDArray[np.bool_]:
        """Give tracks their detections; return which of `found` none took."""
        settings, book = self.settings, self._book
        book["detection"] = UNMATCHED
        free = np.ones(len(found.given), np.bool_)
        if not len(book) or not len(free):
            return free
        alike = overlaps(self._bank.boxes, found.boxes, settings.margin)
        if settings.per_label and len({*book["label"].tolist(), *found.labels.tolist()}) > 1:
            alike *= book["label"][:, None] == found.labels
        taken = np.full(len(book), UNMATCHED)
        first = np.where(book["state"] == LOST, settings.lost_overlap, settings.first_overlap)[:, None]
        high = int(np.count_nonzero(found.scores >= settings.high_score))  # they come first
        tentative = book["state"] == TENTATIVE

        def stage(rows: Rows, columns: Rows, least: float | Array) -> None:
            a, b = assign(alike[rows[:, None], columns], least)
            taken[rows[a]] = columns[b]
            free[columns[b]] = False

        every = np.arange(len(free))
        known = (~tentative).nonzero()[0]
        stage(known, every[:high], first[known])
        if high < len(free):
            stage(known[taken[known] == UNMATCHED], every[high:], settings.second_overlap)
        if len(known) < len(book):
            new = tentative.nonzero()[0]
            stage(new, free[:high].nonzero()[0], settings.first_overlap)
            stage(new[taken[new] == UNMATCHED], high + free[high:].nonzero()[0], settings.second_overlap)
        rows = (taken != UNMATCHED).nonzero()[0]
        self._correct(rows, found, taken[rows])
        return free

    def _correct(self, rows: Rows, found: Accepted, chosen: Rows) -> None:
        """Give the tracks in `rows` the detections `chosen` of `found`."""
        book = self._book
        self._bank.correct(rows, found.boxes[chosen])
        book["detection"][rows] = found.given[chosen]
        book["seen"][rows] = self._t
        book["hits"][rows] += 1
        if self.settings.per_label:
            self._votes.clear()
        else:
            for row, label, score in zip(rows, found.labels[chosen], found.scores[chosen].tolist(), strict=True):
                before = {book["label"][row]: float(book["score"][row])}  # of a track that began by other settings
                votes = self._votes.setdefault(int(book["id"][row]), before)
                votes[label] = votes.get(label, 0.0) + score
                book["label"][row] = max(sorted(votes), key=votes.__getitem__)
        book["score"][rows] = found.scores[chosen]

    def _settle(self) -> list[Track]:
        """Give each track the state that its detection, or none, makes; return those that ended."""
        book = self._book
        missed = book["detection"] == UNMATCHED
        tentative = book["state"] == TENTATIVE
        book["state"][missed & ~tentative] = LOST
        book["state"][~missed & (~tentative | (book["hits"] >= self.settings.confirm_hits))] = CONFIRMED
        return self._remove(missed & tentative)

    def _begin(self, found: Accepted, free: NDArray[np.bool_]) -> None:
        """Begin a track at each detection with a high score that no track took, while there is room."""
        new = (free & (found.scores >= self.settings.high_score)).nonzero()[0]
        new = new[: max(self.settings.max_objects - len(self._book), 0)]
        if not len(new):
            return
        self._bank.start(found.boxes[new])
        added = np.zeros(len(new), RECORD)
        added["id"] = np.arange(self._next, self._next + len(new))
        added["born"] = added["seen"] = self._t
        added["hits"] = 1
        added["state"] = CONFIRMED if self.settings.confirm_hits == 1 else TENTATIVE
        added["state"][found.scores[new] >= self.settings.confirm_score] = CONFIRMED
        added["score"] = found.scores[new]
        added["label"] = found.labels[new]
        added["detection"] = found.given[new]
        self._next += len(new)
        self._book = np.concatenate((self._book, added))
        if not self.settings.per_label:
            for record in added:
                self._votes[int(record["id"])] = {record["label"]: float(record["score"])}

    def _remove(self, gone: NDArray[np.bool_]) -> list[Track]:
        """Forget tracks; return them as removed."""
        if not gone.any():
            return []
        assert self._t is not None
        tracks = [track for track, out in zip(listed(self._book, self._bank, None, self._t), gone, strict=True) if out]
        self._book = self._book[~gone]
        self._bank.keep(~gone)
        for track in tracks:
            self._votes.pop(track.id, None)
        return [track._replace(state=State.REMOVED, detection=None) for track in tracks]

    def validate(self) -> None:
        """Raise TrackingError unless the state is one that can be."""
        self._bank.validate()
        book, settings = self._book, self.settings
        ids = book["id"]
        matched = book["detection"][book["detection"] != UNMATCHED]
        for holds, text in (
            (len(book) == len(self._bank), "tracks and filters differ in number"),
            (len(book) <= settings.max_objects, "there are too many tracks"),
            (len(np.unique(ids)) == len(ids), "two tracks have one id"),
            (not len(ids) or 0 < ids.min() <= ids.max() < self._next, "an id was not given yet"),
            (len(np.unique(matched)) == len(matched), "two tracks have one detection"),
            (self._t is None or (book["born"] <= book["seen"]).all(), "a track was seen before it was born"),
            (
                self._t is None or (book["seen"] <= self._t + 1e-9 * max(1, abs(self._t))).all(),
                "a track is of the future",
            ),
            ((book["hits"] >= 1).all(), "a track was never seen"),
            ((book["state"] <= LOST).all(), "a removed track is kept"),
            (set(self._votes) <= set(ids.tolist()), "labels are kept of other tracks"),
        ):
            if not holds:
                raise TrackingError(text)


def _by_id(ended: list[Track], tracks: list[Track]) -> list[Track]:
    """Return all by id; `tracks` are so already."""
    return sorted(ended + tracks) if ended else tracks
