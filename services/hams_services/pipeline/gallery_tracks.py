"""The identity of a track: decided once, from the average of its vectors. Pure.

One crop says little: the person is half hidden, turned, or blurred. So a track has no identity until it has given
SETTLE vectors, or SETTLE_S have passed since its first (with ``cadence: track`` there is one only). Then the average of
its vectors is compared, once. From then on the track keeps its identity, whatever single crops look like, with two
exceptions:

- DOUBTS vectors in a row are less similar to the identity than the threshold − SLACK: the tracker has changed to
  another person. The track begins anew with the newest vector.
- Another track of the same image has the same identity and is more similar to it: a person is in an image once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SETTLE = 3
"""Vectors from which an identity is decided."""
SETTLE_S = 1.0
"""Time since the first vector after which an identity is decided, with however few vectors, s."""
AVERAGED = 32
"""Vectors that the average stands for at most, so that it follows a slow change."""
SLACK = 0.1
"""Cosine below the threshold that a single vector may have."""
DOUBTS = 5
"""Vectors in a row that must be less similar before a track loses its identity."""
TRACKS = 4096
"""Tracks that are remembered; the one not seen for longest goes."""

Vector = NDArray[np.float32]
Key = tuple[str, str, int]
"""Stream, its run, and number of a track: numbers begin at 1 again in each run."""


@dataclass(frozen=True)
class Sighting:
    """An object that belongs to a track."""

    key: Key
    from_frame: int
    """The frame that its vector is of; a vector that is carried on is taken once."""
    age_s: float = 0.0


@dataclass
class TrackIdentity:
    """What is known of one track."""

    mean: Vector
    """Of length 1."""
    count: int = 0
    from_frame: int = -1
    identity: int | None = None
    doubts: int = 0
    age_s: float = 0.0
    begun_s: float = 0.0
    """Its age when its first vector was taken."""
    fresh: bool = False
    """Whether its newest sighting brought a new vector."""

    @property
    def settled(self) -> bool:
        """Whether its average is good enough to decide by."""
        return self.count >= SETTLE or self.age_s - self.begun_s >= SETTLE_S

    def take(self, sighting: Sighting, vector: Vector) -> None:
        """Add the vector of a sighting to the average, unless it was taken before."""
        self.fresh = sighting.from_frame != self.from_frame
        if self.fresh:
            self.from_frame = sighting.from_frame
            self.count = min(self.count + 1, AVERAGED)
            self.mean = unit(self.mean * (self.count - 1) + vector)
        self.age_s = sighting.age_s

    def doubt(self, cosine: float, threshold: float) -> bool:
        """Take the cosine of a new vector to the track's identity; return whether the track loses its identity."""
        if self.fresh:
            self.doubts = self.doubts + 1 if cosine < threshold - SLACK else 0
        return self.doubts >= DOUBTS

    def restart(self, vector: Vector) -> None:
        """Lose the identity, and begin with this vector."""
        self.mean, self.count, self.identity, self.doubts, self.begun_s = vector, 1, None, 0, self.age_s


@dataclass
class Tracks:
    """The tracks of all streams of a group, as one gallery knows them; at most TRACKS."""

    _tracks: OrderedDict[Key, TrackIdentity] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._tracks)

    def take(self, sighting: Sighting, vector: Vector) -> TrackIdentity:
        """Return the track of a sighting, with its vector."""
        track = self._tracks.setdefault(sighting.key, TrackIdentity(vector, begun_s=sighting.age_s))
        self._tracks.move_to_end(sighting.key)
        if len(self._tracks) > TRACKS:
            self._tracks.popitem(last=False)
        track.take(sighting, vector)
        return track

    def forget(self, identities: set[int]) -> None:
        """Forget the tracks of these identities: their averages are data of the same persons."""
        for key in [key for key, track in self._tracks.items() if track.identity in identities]:
            del self._tracks[key]

    def clear(self) -> None:
        """Forget all."""
        self._tracks.clear()


def unit(vector: Vector) -> Vector:
    """Return a vector of length 1; zeros stay zeros."""
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
