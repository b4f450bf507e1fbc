"""When the detector looks at a stream again: by number, by time, or as its tracks need it. Pure.

Times are of the media, s.

`auto` halves the time to the next look when tracks are uncertain, and lets it grow by half when they are not. Uncertain
is: a track is lost or new, a detection lay far from where its track was expected, or an object moves by much of its own
size until then.
"""

from __future__ import annotations

from collections.abc import Sequence

from hams_services.pipeline.tracking.tracks import State, Track
from hams_shared.group.work_rules import CadenceSpec

OVERLAP = 0.6
"""Least overlap (IoU) of a detection and the box that was expected there, for a track that is certain."""
MOVES = 0.5
"""Most that an object moves between two looks, in times of the smaller side of its box."""
EARLY = 1e-3
"""Frame times are rounded: a look may come so much earlier than it is due, s."""


class Cadence:
    """When one stream's detector looks again."""

    def __init__(self, spec: CadenceSpec) -> None:
        self.spec = spec
        self.frames = spec.frames or 1
        """Of a cadence by number; of `max` what was measured, 1 until then."""
        self._since = 0
        """Frames since the last look, that one included; 0: none yet."""
        self._last: float | None = None
        self._pause = 0.0

    def change(self, spec: CadenceSpec) -> None:
        """Look by `spec` from now on, counted from the last look."""
        self.spec, self.frames = spec, spec.frames or 1

    def due(self, t: float) -> bool:
        """Whether the detector is to look at the frame at `t`."""
        if self._last is None or t < self._last:
            return True
        if self.spec.auto or self.spec.seconds is not None:
            return t - self._last >= (self.spec.seconds or self._pause) - EARLY
        return self._since >= self.frames

    def launched(self, t: float, *, looks: bool) -> None:
        """A frame at `t` is on its way."""
        self._since = 1 if looks else self._since + 1
        if looks:
            self._last = t

    def missed(self) -> None:
        """A frame that the detector was to look at was lost: it looks at the next one."""
        self._last = None

    def looked(self, tracks: Sequence[Track], overlaps: Sequence[float]) -> None:
        """Of `auto`: take the tracks after a look, and how far detections overlap with what was expected."""
        longest = 1.0 / self.spec.least_fps
        pause = max(self._pause, 0.02)
        calm = all(overlap >= OVERLAP for overlap in overlaps) and all(_certain(one, pause) for one in tracks)
        self._pause = min(pause * 1.5, longest) if calm else min(pause / 2, longest)


def _certain(track: Track, pause: float) -> bool:
    if track.state is State.REMOVED:
        return True
    x0, y0, x1, y1 = track.box
    speed = max(abs(track.velocity[0]), abs(track.velocity[1]))
    return track.state is State.CONFIRMED and speed * pause <= MOVES * min(x1 - x0, y1 - y0)
