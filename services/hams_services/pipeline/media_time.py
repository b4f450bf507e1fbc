"""The time of a stream's frames: a file's own clock, whatever its pace. Pure."""

from __future__ import annotations

LONGEST_STEP_S = 3600.0
"""A clock that goes back, or on by more than this, is another one: two files were put one after the other."""
LONGEST_LAST_S = 1.0


class MediaTime:
    """Times of the frames of a file, s since its first one; they go on where the file starts over.

    `period` is the time between two frames that have no times of their own, s.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._step = period
        self._file: float | None = None
        self._began = False
        self.now = 0.0
        """Of the frame that came last."""

    def next(self, at: float | None) -> float:
        """Take the next frame, to be shown at `at` of the file's own clock (None: it has none); return its time."""
        step = self._period
        if at is not None and self._file is not None and 0 < at - self._file <= LONGEST_STEP_S:
            step = self._step = at - self._file
        self._file = at
        if self._began:
            self.now += step
        self._began = True
        return self.now

    def restart(self) -> None:
        """The file starts over: its last frame is shown for as long as the one before."""
        if self._began:
            self.now += max(self._period, min(self._step, LONGEST_LAST_S)) - self._period
        self._file = None
