"""The time of each frame of a stream, s since its first one. Pure."""

from __future__ import annotations

LONGEST_STEP_S = 3600.0
"""A clock that goes back, or on by more than this, is another one: two files were joined, or a camera restarted."""
LONGEST_LAST_S = 1.0


class MediaTime:
    """Turns presentation times into times of the stream, which go on where a file starts over or a camera returns.

    `period` is the time between two frames of a file that have no times of their own, s; None: a live source, whose
    frames without times take that of their arrival.
    """

    def __init__(self, period: float | None) -> None:
        self._period = period
        self._step = period or 0.0
        self._at: float | None = None
        self._arrived: float | None = None
        self.now = 0.0
        """Of the newest frame."""

    def next(self, at: float | None, arrived: float) -> float:
        """Take the next frame; return its time.

        `at` is its presentation time by the source's own clock (None: it has none), `arrived` the host's clock, both s.
        """
        if self._arrived is not None:
            step = self._period if self._period is not None else max(0.0, arrived - self._arrived)
            if at is not None and self._at is not None and 0 < at - self._at <= LONGEST_STEP_S:
                step = self._step = at - self._at
            self.now += step
        self._at, self._arrived = at, arrived
        return self.now

    def restart(self) -> None:
        """The source starts over. The last frame of a file is shown for as long as the one before."""
        if self._arrived is not None and self._period is not None:
            self.now += max(self._period, min(self._step, LONGEST_LAST_S)) - self._period
        self._at = None
