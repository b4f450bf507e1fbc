"""One stream of one group at run time: reads its source and feeds its flow."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from hams_services.pipeline.dispatch import GroupContext
from hams_services.pipeline.flow import Flow, StreamState
from hams_services.pipeline.sources.base import Picture, Source
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.reader import Reader
from hams_services.pipeline.sources.wall_clock import credible
from hams_shared.errors import HamsError, SourceError, as_hams_error
from hams_shared.group.camera_url import redacted
from hams_shared.group.source_kind import source_kind
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.frames import Pixels
from hams_shared.wire.messages.pipeline import PushAnswer, StreamLoad, StreamView

T = TypeVar("T")

REOPEN = Backoff(first=0.625, longest=18.75, jitter=0.2)
"""Pauses before a lost source is opened again; the cameras of a site do not all come back at once."""
PUSHED_S = 5.0
"""A push stream plays while the newest frame is younger than this, s."""
READ_AHEAD = 4
"""Most frames that are read at once where there is room for them: handing over several costs little more than one."""
STALLED_S = 5.0
"""A source that has not answered for so long has stalled, s: its disk, mount or network may hang."""
OPEN_S, SILENT_S = 30.0, 60.0
"""A live source must open, and answer within these times, s. Network cameras have shorter deadlines of their own:
what exceeds these hangs, in a driver for example."""
LONGEST_STEP_S = 3600.0
"""A clock that goes back, or on by more than this, is another one: two files were joined, or a camera restarted."""
LONGEST_LAST_S = 1.0


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
        self._media = MediaTime(None)
        """Of pushed and live frames."""
        self._asked: float | None = None
        """When the read began that the source has not answered, monotonic s."""
        self._reader: Reader | None = None
        self._source: Source | None = None
        """Read by its reader's thread; here only what it reports of itself is read."""

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
        if stalled > (STALLED_S if self.spec.decode.every == "frame" else SILENT_S) and self.state != "reconnecting":
            text = f"the source has returned nothing for {stalled:.0f} s: does its disk, mount or network hang?"
            return self._with_source(self.flow.view("waiting", text))
        return self._with_source(self.flow.view(self.state, self.text))

    def load(self) -> StreamLoad:
        """What the stream has cost so far."""
        cpu_s = self._reader.cpu_s if self._reader is not None else 0.0
        return self.flow.load(cpu_s)

    def _with_source(self, view: StreamView) -> StreamView:
        if self._source is None:
            return view
        return view.model_copy(update={"decoder": self._source.decoder, "damaged": self._source.damaged})

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
            self.flow.end_tracks()
        except Exception as error:
            if not isinstance(error, HamsError):
                self.flow.log.exception("stream %s broke", self.flow.name)
            await self._wait(lambda: self.flow.core.idle)
            self.state, self.text = "failed", str(as_hams_error(error))
            self.flow.end_tracks()
            self.flow.log.error("stream %s: %s", self.flow.name, self.text)

    async def push(self, image: Pixels) -> PushAnswer:
        """Take a frame from an application, once there is room for it."""
        core = self.flow.core
        async with self._pushing:
            await self._wait(lambda: core.plan is not None and core.wants_frame)
            self._pushed = self._clock.now()
            before = core.ledger.dropped.total()
            frame = self.flow.submit(Picture(image), self._media.next(None, self._clock.now()))
            return PushAnswer(frame=frame, overloaded=core.ledger.dropped.total() > before)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.flow.changed.clear()
            await self.flow.changed.wait()

    async def _answer(self, call: Awaitable[T]) -> T:
        """Wait for the source, without a deadline: a file may wait for its mount."""
        self._asked = self._clock.now()
        try:
            return await call
        finally:
            self._asked = None

    async def _answer_within(self, seconds: float, call: Awaitable[T]) -> T:
        """Wait for a live source. Raises SourceError when it hangs."""
        try:
            async with asyncio.timeout(seconds):
                return await self._answer(call)
        except TimeoutError:
            text = f"{redacted(self.spec.source)} hangs: it has returned nothing for {seconds:.0f} s"
            raise SourceError(text, "it is opened again once its driver or server answers") from None

    def _opener(self) -> Callable[[], Source]:
        return partial(open_source, self.spec, self._cache)

    async def _play_file(self) -> None:
        reader = self._reader = Reader(self.flow.name)
        try:
            await self._play_through(reader)
        finally:
            await reader.stop()

    async def _play_through(self, reader: Reader) -> None:
        source = self._source = await self._answer(reader.open(self._opener()))
        self.state = "playing"
        period = 1.0 / (self.spec.fps or source.fps or 25.0)
        media = MediaTime(period)
        begin = self._clock.now()
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            count = self.flow.core.room if self.spec.pace == "max" else 1
            blanks = self.flow.frames.blanks(min(count, READ_AHEAD))
            pictures = await self._answer(reader.read(blanks))
            self.flow.frames.taken([picture.pixels for picture in pictures])
            self._note(source.note)
            for picture in pictures:
                now = self._clock.now()
                time_s = media.next(None if self.spec.fps else picture.at, now)
                if self.spec.pace == "realtime":
                    begin = max(begin, now - period - time_s)  # after a stall go on by the clock, do not catch up
                    await asyncio.sleep(max(0.0, begin + time_s - now))
                self.flow.submit(picture, time_s, more=picture is not pictures[-1])
            if len(pictures) == len(blanks) or reader.failed:
                continue
            if not self.spec.loop:
                return
            await self._answer(reader.rewind())
            media.restart()

    def _note(self, note: str) -> None:
        """Show and log a note of the source; one that only counts on is logged once."""
        if note and not self.text:
            self.flow.log.warning("stream %s: %s: %s", self.flow.name, redacted(self.spec.source), note)
        self.text = note

    async def _play_endless(self) -> None:
        """Take frames at the source's pace; a source that is lost, or not there yet, is opened again and again."""
        reader = self._reader = Reader(self.flow.name)
        try:
            while True:
                try:
                    self._source = await self._answer_within(OPEN_S, reader.open(self._opener()))
                    await self._take_all(reader, self._source)
                except SourceError as error:
                    self._failures += 1
                    pause = REOPEN.pause(self._failures, random.random())
                    self.state, self.text = "reconnecting", f"{error}; next try in {pause:.0f} s"
                    self.flow.log.warning("stream %s: %s", self.flow.name, self.text)
                    self._media.restart()
                    await reader.close()  # after the call that hangs, if one does
                    await asyncio.sleep(pause)
        finally:
            await reader.stop()

    async def _take_all(self, reader: Reader, source: Source) -> None:
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            pictures = await self._answer_within(SILENT_S, reader.read(self.flow.frames.blanks(1)))
            if not pictures:
                raise SourceError(f"{redacted(self.spec.source)} has ended")
            self.flow.frames.taken([pictures[0].pixels])
            if self.state != "playing":
                self.state, self.text = "playing", ""
            self._failures = 0
            picture, doubt = with_credible_time(pictures[0], time.time())
            self._note(source.note or doubt)
            self.flow.submit(picture, self._media.next(picture.at, self._clock.now()))


def with_credible_time(picture: Picture, now: float) -> tuple[Picture, str]:
    """Return the picture without the time at which its camera took it where that cannot be, and a note. Unix s."""
    if picture.captured is None or credible(picture.captured, now):
        return picture, ""
    off = picture.captured - now
    note = f"the camera's clock is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}: `captured` is by arrival"
    return replace(picture, captured=None), note


class MediaTime:
    """The time of each frame, s since the stream's first one; it goes on where a file starts over or a camera returns.

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
