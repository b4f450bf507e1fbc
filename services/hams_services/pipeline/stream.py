"""One stream of one group at run time: reads its source and feeds its flow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from hams_services.pipeline.flow import Flow, GroupContext, StreamState
from hams_services.pipeline.sources.base import Reader
from hams_services.pipeline.sources.opening import open_source
from hams_shared.errors import HamsError, SourceError, as_hams_error
from hams_shared.group.camera_url import redacted
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import StreamSpec
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.frames import Pixels
from hams_shared.wire.messages.pipeline import PushAnswer, StreamView

T = TypeVar("T")

REOPEN = Backoff(first=0.625, longest=18.75, jitter=0.2)
"""Pauses before a lost source is opened again; the cameras of a site do not all come back at once."""
PUSHED_S = 5.0
"""A push stream plays while the newest frame is younger than this, s."""
STALLED_S = 5.0
"""A source that has not answered for so long has stalled, s: its disk, mount or network may hang."""
LONGEST_STEP_S = 3600.0
"""A file's clock that goes back, or on by more than this, is another one: two files were joined."""
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
        """Of the newest frame."""

    def next(self, at: float | None) -> float:
        """Take the next frame, shown at `at` of the file's own clock (None: it has none); return its time."""
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


def push_state(age: float | None) -> tuple[StreamState, str]:
    """Return the state of a push stream, and why; `age` is that of the newest frame, s, None before the first."""
    if age is None:
        return "waiting", "no frame was pushed yet"
    return ("playing", "") if age < PUSHED_S else ("waiting", "no frame is pushed")


class StreamRunner:
    """A flow fed from a source."""

    def __init__(self, context: GroupContext, stream: str, cache: Path) -> None:
        self.spec: StreamSpec = context.spec.streams[stream]
        self.flow = Flow(context, stream, lossless=self.spec.mode == "lossless", publish=True)
        self.state: StreamState = "waiting"
        self.text = ""
        self._failures = 0
        """Of the source, since the newest frame."""
        self._kind = source_kind(self.spec.source)
        self._cache = cache
        self._clock = context.clock
        self._pushing = asyncio.Lock()
        self._pushed: float | None = None
        """When the newest pushed frame was taken, monotonic s."""
        self._first: float | None = None
        """When the first frame was taken, monotonic s."""
        self._asked: float | None = None
        """When the read began that the source has not answered, monotonic s."""

    @property
    def pushed(self) -> bool:
        """Whether applications send its frames."""
        return self._kind == "push"

    def view(self) -> StreamView:
        """As `status` shows it."""
        now = self._clock.now()
        if self.pushed and self.flow.core.plan is not None:
            self.state, self.text = push_state(None if self._pushed is None else now - self._pushed)
        stalled = now - self._asked if self._asked is not None else 0.0
        if stalled > STALLED_S and self.state != "reconnecting":
            text = f"the source has returned nothing for {stalled:.0f} s: does its disk, mount or network hang?"
            return self.flow.view("waiting", text)
        return self.flow.view(self.state, self.text)

    async def run(self) -> None:
        """Play the source to its end, then wait for the last frame. Ends in state ``ended`` or ``failed``."""
        try:
            await self._wait(lambda: self.flow.core.plan is not None)
            match self._kind:
                case "file":
                    await self._play_file()
                case "push":
                    return  # applications send its frames, as long as they like
                case _:
                    await self._play_endless()
            await self._wait(lambda: self.flow.core.idle)
            self.state = "ended"
        except Exception as error:
            if not isinstance(error, HamsError):
                self.flow.log.exception("stream %s broke", self.flow.name)
            await self._wait(lambda: self.flow.core.idle)
            self.state, self.text = "failed", str(as_hams_error(error))
            self.flow.log.error("stream %s: %s", self.flow.name, self.text)

    async def push(self, image: Pixels) -> PushAnswer:
        """Take a frame from an application, once there is room for it."""
        core = self.flow.core
        async with self._pushing:
            await self._wait(lambda: core.plan is not None and core.wants_frame)
            self._pushed = self._clock.now()
            before = core.ledger.dropped.total()
            frame = self.flow.submit(image, self._since_first())
            return PushAnswer(frame=frame, overloaded=core.ledger.dropped.total() > before)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.flow.changed.clear()
            await self.flow.changed.wait()

    async def _answer(self, call: Awaitable[T]) -> T:
        """Wait for the source, without a deadline: cameras have their own, and a file may wait for its mount."""
        self._asked = self._clock.now()
        try:
            return await call
        finally:
            self._asked = None

    async def _play_file(self) -> None:
        reader = Reader(self.flow.name)
        try:
            await self._play_through(reader)
        finally:
            await reader.stop()

    async def _play_through(self, reader: Reader) -> None:
        source = await self._answer(reader.open(partial(open_source, self.spec.source, self._cache)))
        self.state = "playing"
        period = 1.0 / (self.spec.fps or source.fps or 25.0)
        media = MediaTime(period)
        begin = self._clock.now()
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            image = await self._answer(reader.read(self.flow.frames.blank()))
            self._note(source.note)
            if image is None:
                if not self.spec.loop:
                    return
                await self._answer(reader.rewind())
                media.restart()
                continue
            time = media.next(None if self.spec.fps else source.at)
            if self.spec.pace == "realtime":
                now = self._clock.now()
                begin = max(begin, now - period - time)  # after a stall go on by the clock, do not catch up
                await asyncio.sleep(max(0.0, begin + time - now))
            self.flow.submit(image, time)

    def _note(self, note: str) -> None:
        """Show and log a note of the source once."""
        if note != self.text and note:
            self.flow.log.warning("stream %s: %s: %s", self.flow.name, redacted(self.spec.source), note)
            self.text = note

    async def _play_endless(self) -> None:
        """Take frames at the source's pace; a source that is lost, or not there yet, is opened again and again."""
        reader = Reader(self.flow.name)
        try:
            while True:
                try:
                    await self._answer(reader.open(partial(open_source, self.spec.source, self._cache)))
                    await self._take_all(reader)
                except SourceError as error:
                    await reader.close()
                    self._failures += 1
                    pause = REOPEN.pause(self._failures, random.random())
                    self.state, self.text = "reconnecting", f"{error}; next try in {pause:.0f} s"
                    self.flow.log.warning("stream %s: %s", self.flow.name, self.text)
                    await asyncio.sleep(pause)
        finally:
            await reader.stop()

    async def _take_all(self, reader: Reader) -> None:
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            image = await self._answer(reader.read(self.flow.frames.blank()))
            if image is None:
                raise SourceError(f"{redacted(self.spec.source)} has ended")
            self.state, self.text = "playing", ""
            self._failures = 0
            self.flow.submit(image, self._since_first())

    def _since_first(self) -> float:
        """Return the time of a frame that has none of its own: since the stream's first one, s."""
        self._first = self._clock.now() if self._first is None else self._first
        return self._clock.now() - self._first
