"""The time of each frame of a stream, by the clock of its source. Pure."""

from __future__ import annotations

from hams_shared.wire.messages.results import MediaMark

LONGEST_STEP_S = 3600.0
"""A clock that goes back, or on by more than this, is another one: two files were joined, or a camera restarted."""
LONGEST_LAST_S = 1.0


class MediaTime:
    """The time of each frame, s since the stream's first one; it goes on where a file starts over or a camera returns.

    `period` is the time between two frames of a file that have no times of their own, s; None: a live source, whose
    frames without times take that of their arrival.
    """

    def __init__(self, period: float | None = None) -> None:
        self.period = period
        self.step = period or 0.0
        """Between the newest frame and the one before, s."""
        self._at: float | None = None
        self._arrived: float | None = None
        self.now = 0.0
        """Of the newest frame."""

    def next(self, at: float | None, arrived: float) -> float:
        """Take the next frame; return its time.

        `at` is its presentation time by the source's own clock (None: it has none), `arrived` the host's clock, both s.
        """
        if self._arrived is not None:
            step = self.period if self.period is not None else max(0.0, arrived - self._arrived)
            if at is not None and self._at is not None and 0 < at - self._at <= LONGEST_STEP_S:
                step = self.step = at - self._at
            self.now += step
        self._at, self._arrived = at, arrived
        return self.now

    def resume(self, mark: MediaMark, *, own_clock: bool) -> None:
        """Go on behind a frame that an earlier life read; `own_clock`: frames come with times of their source."""
        self.now, self.step, self._arrived = mark.now, mark.step, 0.0
        self._at = mark.at if own_clock else None

    def restart(self) -> None:
        """The source starts over. The last frame of a file is shown for as long as the one before."""
        if self._arrived is not None and self.period is not None:
            self.now += max(self.period, min(self.step, LONGEST_LAST_S)) - self.period
        self._at = None
