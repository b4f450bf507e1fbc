"""Two streams of one camera as one source: the large one gives the frames, the small one their reduced pictures.

Each stream is read in a thread of its own, which keeps the newest frames. So neither stream waits for the other, and
the times of arrival are right also where the pipeline is slow. :func:`partner` decides which frames belong together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hams_services.pipeline.sources.base import Picture, Source
from hams_shared.errors import HamsError, SourceError, as_hams_error
from hams_shared.wire.frames import Pixels

log = logging.getLogger("hams.pipeline")

LARGE_KEPT = 8
"""Newest frames of the large stream; one of 4K has 25 MB."""
SMALL_KEPT = 32
"""Newest frames of the small stream: at 25 frames/s they bridge a large stream that is 1 s late."""
SPARE_KEPT = 2
"""Buffers of large frames that are used again."""
FARTHEST_S = 0.5
"""Frames that are farther apart are no pair, s."""
PATIENCE_S = 5.0
"""Without a pair for this long the source is lost, s."""
FIRST_S = 9.0
"""The same before both streams have sent a frame, s: a stream may begin at its next key frame only."""
SETTLE_S = 1.0
"""What arrives within this time after the start, s, had waited while the streams were opened: when it was taken is
unknown without a clock."""
STOP_S = 1.5
"""How long the two threads may take to end; then they end once their reads return."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a frame."""

    arrived: float
    """When it was read, monotonic time, s."""
    captured: float | None = None
    """When the camera took it, by the camera's clock, Unix time, s."""

    def after(self, other: Moment) -> float:
        """Return how much later this frame is than `other`, s: by the camera's clock, or else by arrival."""
        if self.captured is not None and other.captured is not None:
            return self.captured - other.captured
        return self.arrived - other.arrived


Choice = int | Literal["wait", "none"]


def partner(small: Moment, large: Sequence[Moment], used: Moment | None, now: float) -> Choice:
    """Return which of `large`, oldest first, is nearest to `small`, so that they are a pair. Pure.

    `used` is the newest large frame that is in a pair already, older than all of `large`; `now` is monotonic time, s.
    Returns "wait" where a later large frame may be nearer, for `FARTHEST_S` after the arrival of `small`; "none" where
    the nearest one is used, or farther than `FARTHEST_S`.
    """
    known = [*([] if used is None else [used]), *large]
    gaps = [one.after(small) for one in known]
    if _later_may_be_nearer(gaps) and now - small.arrived < FARTHEST_S:
        return "wait"
    if not gaps:
        return "none"
    nearest = min(range(len(gaps)), key=lambda index: abs(gaps[index]))
    if abs(gaps[nearest]) > FARTHEST_S or known[nearest] is used:
        return "none"
    return nearest - (len(known) - len(large))


def _later_may_be_nearer(gaps: Sequence[float]) -> bool:
    """Whether the next large frame may be nearer than the newest one: they come about as far apart as the last two."""
    if not gaps:
        return True
    return gaps[-1] < 0 and (len(gaps) == 1 or -gaps[-1] > (gaps[-1] - gaps[-2]) / 2)


class _Feed:
    """One of the two streams and the thread that reads it."""

    def __init__(self, source: Source, key: str, kept: int, changed: threading.Condition) -> None:
        self.source = source
        self.key = key
        """The key of the group file, for people."""
        self.frames: deque[tuple[Moment, Picture]] = deque()
        self.spare: list[Pixels] = []
        """Buffers to read into."""
        self.arrived: float | None = None
        """When the newest frame did, monotonic time, s; None: there was none yet."""
        self.error: HamsError | None = None
        self._kept = kept
        self._changed = changed
        self._stopped = False
        self._started = time.monotonic()
        self.thread = threading.Thread(target=self._read, name=f"paired {key}", daemon=True)

    @property
    def moments(self) -> list[Moment]:
        """The times of the frames, oldest first."""
        return [moment for moment, _ in self.frames]

    def stop(self) -> None:
        """End the thread once its read returns."""
        self._stopped = True

    def recycle(self, pixels: Pixels) -> None:
        """Read a later frame into the memory of one that nobody looks at any more."""
        if len(self.spare) < SPARE_KEPT:
            self.spare.append(pixels)

    def _read(self) -> None:
        try:
            while not self._stopped:
                with self._changed:
                    into = self.spare.pop() if self.spare else None
                picture = self.source.read(into)
                if picture is None:
                    raise SourceError("it has ended")
                self._keep(picture)
        except Exception as error:
            self._fail(as_hams_error(error))
        finally:
            self._close()

    def _keep(self, picture: Picture) -> None:
        with self._changed:
            self.arrived = time.monotonic()
            if picture.captured is None and self.arrived - self._started < SETTLE_S:
                self.recycle(picture.pixels)
                return
            self.frames.append((Moment(self.arrived, picture.captured), picture))
            while len(self.frames) > self._kept:
                self.recycle(self.frames.popleft()[1].pixels)
            self._changed.notify_all()

    def _fail(self, error: HamsError) -> None:
        with self._changed:
            self.error = SourceError(f"{self.key}: {error.text}", error.hint)
            self._changed.notify_all()

    def _close(self) -> None:
        try:
            self.source.close()
        except Exception:
            log.exception("the %s of a stream could not be closed", self.key)


class Paired(Source):
    """A camera's large and small stream, opened before; their threads end at :meth:`close`."""

    def __init__(self, large: Source, small: Source) -> None:
        self._changed = threading.Condition()
        self._large = _Feed(large, "source", LARGE_KEPT, self._changed)
        self._small = _Feed(small, "substream", SMALL_KEPT, self._changed)
        self._used: Moment | None = None
        self.fps = None
        self.endless = True
        self.decoder = f"{large.decoder}; substream: {small.decoder}"
        self.damaged = 0
        self.note = ""
        for feed in (self._large, self._small):
            feed.thread.start()

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Return the next large frame that has a partner, with it; see :class:`Source`.

        Raises:
            SourceError: one of the streams is lost, or no two frames belong together; the text holds which.
        """
        with self._changed:
            large, small = self._next_pair()
        self._tell(large, small)
        pixels = large.pixels
        if into is not None and into.shape == pixels.shape:
            np.copyto(into, pixels)
            with self._changed:
                self._large.recycle(pixels)
            pixels = into
        return Picture(pixels, large.at, large.captured, small.pixels)

    def rewind(self) -> None:
        """A camera has no beginning."""

    def close(self) -> None:
        """End both threads; each closes its stream."""
        end = time.monotonic() + STOP_S
        for feed in (self._large, self._small):
            feed.stop()
        for feed in (self._large, self._small):
            feed.thread.join(max(0.0, end - time.monotonic()))
            if feed.thread.is_alive():
                log.warning("the %s of a stream hangs: its thread ends once it answers", feed.key)

    def _next_pair(self) -> tuple[Picture, Picture]:
        """Return a large frame and its partner, and forget older ones. Raises SourceError. Holds the lock."""
        began = time.monotonic()
        while True:
            now = time.monotonic()
            choice = self._choose(now)
            if isinstance(choice, int):
                return self._take(choice)
            if choice == "none":
                self._small.frames.popleft()
                continue
            for feed in (self._large, self._small):
                if feed.error is not None:
                    raise feed.error
            both = self._large.arrived is not None and self._small.arrived is not None
            left = began + (PATIENCE_S if both else FIRST_S) - now
            if left <= 0:
                raise self._unpaired(began, now)
            self._changed.wait(min(left, FARTHEST_S / 2))

    def _choose(self, now: float) -> Choice:
        """Return the partner of the oldest small frame."""
        if not self._small.frames:
            return "wait"
        return partner(self._small.frames[0][0], self._large.moments, self._used, now)

    def _take(self, index: int) -> tuple[Picture, Picture]:
        for _ in range(index):
            self._large.recycle(self._large.frames.popleft()[1].pixels)
        self._used, large = self._large.frames.popleft()
        return large, self._small.frames.popleft()[1]

    def _unpaired(self, began: float, now: float) -> SourceError:
        feed = min(self._large, self._small, key=lambda one: one.arrived or 0.0)
        if feed.arrived is None or feed.arrived < began:
            return SourceError(f"{feed.key}: no frame for {now - began:.0f} s", "is this stream on in the camera?")
        return SourceError(
            f"source and substream: no two frames are within {FARTHEST_S:g} s of one another",
            "give both streams of the camera the same clock, or leave substream out",
        )

    def _tell(self, large: Picture, small: Picture) -> None:
        sources = self._large.source, self._small.source
        self.damaged = sum(source.damaged for source in sources)
        notes = [source.note for source in sources if source.note]
        if small.pixels.size > large.pixels.size:
            notes.append("substream is larger than source: are they exchanged?")
        self.note = "; ".join(notes)
