"""One stream of one group at run time: reads its source and feeds its flow."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hams_services.pipeline.dispatch import GroupContext
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.media_time import MediaTime
from hams_services.pipeline.sources.base import Picture, Source
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.reader import Reader
from hams_services.pipeline.sources.wall_clock import credible
from hams_services.pipeline.stream_place import StreamPlace
from hams_services.pipeline.views import StreamState, stream_load
from hams_shared.errors import HamsError, RefusedError, SourceError, as_hams_error
from hams_shared.group.camera_url import redacted
from hams_shared.group.regions import Regions
from hams_shared.group.source_kind import SourceKind, source_kind
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.messages.pipeline import PushAnswer, StreamLoad, StreamView

T = TypeVar("T")

CLOSE_S = 5.0
"""How long the source of before may take to be closed, s; then the next one is opened all the same."""

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


def reading(spec: StreamSpec) -> dict[str, Any]:
    """Return what a spec says of the source and of how it is read; the rest counts between two frames."""
    return spec.model_dump(exclude=set(Regions.model_fields))


def push_state(age: float | None) -> tuple[StreamState, str]:
    """Return the state of a push stream, and why; `age` is that of the newest frame, s, None before the first."""
    if age is None:
        return "waiting", "no frame was pushed yet"
    return ("playing", "") if age < PUSHED_S else ("waiting", "no frame is pushed")


class StreamRunner:
    """A flow fed from a source."""

    def __init__(
        self, context: GroupContext, stream: str, cache: Path, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """`on_change` is called when it has become live or lossless."""
        self._on_change = on_change
        self.spec: StreamSpec = context.record.spec.streams[stream]
        """That the source is read by."""
        self._wanted = self.spec
        """That it is to be read by, once the source of before is closed."""
        self._begun = self.spec
        """That the flow has begun anew for; a change may be overtaken by the next one."""
        self.flow = Flow(context, stream, lossless=self.spec.mode == "lossless", publish=True)
        self.flow.endless = self._kind != "file"
        self.state: StreamState = "waiting"
        self.text = ""
        self._failures = 0
        """Of the source, since the newest frame."""
        self._cache = cache
        self._clock = context.clock
        self._pushing = asyncio.Lock()
        self._pushed: float | None = None
        """When the newest pushed frame was taken, monotonic s."""
        self._media = MediaTime()
        self._asked: float | None = None
        """When the read began that the source has not answered, monotonic s."""
        self._reader: Reader | None = None
        self._read_s = 0.0
        """CPU time of the readers before it, s."""
        self._source: Source | None = None
        """Read by its reader's thread; here only what it reports of itself is read."""
        self.place = StreamPlace(self.flow, lambda: self._kind, lambda: self.state == "ended")
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        """Earlier tasks whose source is still being closed."""

    @property
    def _kind(self) -> SourceKind:
        return source_kind(self.spec.source)

    def play(self, owner: asyncio.TaskGroup) -> None:
        """Read the source, in a task."""
        self._task = owner.create_task(self.run())

    async def halt(self) -> None:
        """Close the source, and read no more."""
        self._cancel()
        await self._until_closed()

    def change(self, spec: StreamSpec, owner: asyncio.TaskGroup) -> None:
        """Read by another spec: where the source or the way of reading it is another, or failed, it is opened anew."""
        before, self._wanted = self._wanted, spec
        if reading(spec) == reading(before) and self.state != "failed":
            if self.spec is before:  # else a task is about to take it
                self.spec = spec
            return
        self._cancel()
        self._task = owner.create_task(self._go_on())

    def _cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _until_closed(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE_S)

    async def _go_on(self) -> None:
        """Close the source and go on by what is wanted. Frame numbers go on; tracks do where the source is the same."""
        await self._until_closed()
        before, spec = self._begun, self._wanted
        self.spec = spec
        self._source = None
        if spec.addresses != before.addresses:
            self.place.other_source()
            self._media.restart()
            self._media.period = None  # a file sets its own
        if spec.addresses != before.addresses or spec.mode != before.mode:
            async with self._pushing:  # applications wait meanwhile
                await self._idle()
                self.flow.endless = self._kind != "file"
                await self.flow.begin_anew(lossless=spec.mode == "lossless", tracks=spec.addresses == before.addresses)
            self._on_change()
        self._begun = spec
        self.text = ""
        await self.run()

    async def _idle(self) -> None:
        """Wait until no frame is under way; those that no device takes are dropped."""
        try:
            async with asyncio.timeout(self.flow.core.deadline_s):
                await self._wait(lambda: self.flow.core.idle)
        except TimeoutError:
            self.flow.drop("stream-changed")

    @property
    def pushed(self) -> bool:
        """Whether applications send its frames."""
        return self._kind == "push"

    @property
    def resumable(self) -> bool:
        """Whether a later pipeline goes on where this one was."""
        return self.place.resumable

    def view(self) -> StreamView:
        """As `status` shows it."""
        now = self._clock.now()
        if self.pushed and self.flow.core.plan is not None and not self.spec.paused:
            self.state, self.text = push_state(None if self._pushed is None else now - self._pushed)
        stalled = now - self._asked if self._asked is not None else 0.0
        if stalled > (STALLED_S if self.spec.decode.every == "frame" else SILENT_S) and self.state != "reconnecting":
            text = f"the source has returned nothing for {stalled:.0f} s: does its disk, mount or network hang?"
            return self._with_source(self.flow.view("waiting", text))
        return self._with_source(self.flow.view(self.state, self.text))

    def load(self) -> StreamLoad:
        """What the stream has cost so far."""
        read_s = self._read_s + (self._reader.cpu_s if self._reader is not None else 0.0)
        return stream_load(self.flow.group, self.flow.core, read_s)

    def _new_reader(self) -> Reader:
        if self._reader is not None:
            self._read_s += self._reader.cpu_s
        self._reader = Reader(self.flow.name)
        return self._reader

    def _with_source(self, view: StreamView) -> StreamView:
        if self._source is None:
            return view
        return view.model_copy(update={"decoder": self._source.decoder, "damaged": self._source.damaged})

    async def run(self) -> None:
        """Play the source to its end, then wait for the last frame.

        Ends in state ``ended``, ``failed`` or, at once, ``paused``.
        """
        if self.spec.paused:
            self.state, self.text = "paused", ""
            return
        self.state = "waiting"
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
            await self.flow.end_tracks("stream-ended")
        except Exception as error:
            if not isinstance(error, HamsError):
                self.flow.log.exception("stream %s broke", self.flow.name)
            await self._wait(lambda: self.flow.core.idle)
            self.state, self.text = "failed", str(as_hams_error(error))
            await self.flow.end_tracks("stream-ended")
            self.flow.log.error("stream %s: %s", self.flow.name, self.text)

    async def push(self, picture: Picture, number: int | None = None) -> PushAnswer:
        """Take a frame from an application, once there is room for it.

        Where the application gives its `number`, one that was taken already is not taken again. Raises RefusedError for
        one that is not the next.
        """
        core = self.flow.core
        if self.spec.paused:
            raise RefusedError(f"stream {self.flow.name} is paused", "hams-ctl stream resume")
        async with self._pushing:
            if number is not None and number != core.ledger.submitted:
                return self._not_next(number)
            await self._wait(lambda: core.plan is not None and core.wants_frame)
            self._pushed = self._clock.now()
            before = core.ledger.dropped.total()
            frame = self.flow.submit(picture, self._media.next(None, self._clock.now()))
            return PushAnswer(frame=frame, overloaded=core.ledger.dropped.total() > before)

    def _not_next(self, number: int) -> PushAnswer:
        due = self.flow.core.ledger.submitted
        if number < due:
            return PushAnswer(frame=number)
        text = f"stream {self.flow.name} goes on at frame {due}, not {number}"
        raise RefusedError(
            text, f"push frame {due} next: those from there on are not taken, or their results were lost"
        )

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
        reader = self._new_reader()
        try:
            await self._play_through(reader)
        finally:
            await self._stop(reader)

    async def _stop(self, reader: Reader) -> None:
        """Read no more. Memory that a read left behind may still write into is used again only once that has ended."""
        reader.when_ended(self.flow.frames.abandon())
        await reader.stop()

    async def _play_through(self, reader: Reader) -> None:
        source = self._source = await self._answer(reader.open(self._opener()))
        media = self._media
        media.period = period = 1.0 / (self.spec.fps or source.fps or 25.0)
        if not await self._answer(self.place.find(reader, source, media, own_clock=not self.spec.fps)):
            return
        self.state = "playing"
        begin = self._clock.now() - media.now
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            count = self.flow.core.room if self.spec.pace == "max" else 1
            blanks = self.flow.frames.blanks(min(count, READ_AHEAD))
            reader.timed = self.flow.traces.active
            pictures = await self._answer(reader.read(blanks))
            self.flow.frames.taken([picture.pixels for picture in pictures])
            self._note(source.note)
            for picture in pictures:
                now = self._clock.now()
                time_s = media.next(None if self.spec.fps else picture.at, now)
                if not self.place.read(picture.at, media):
                    begin = now - time_s
                    continue
                if self.spec.pace == "realtime":
                    begin = max(begin, now - period - time_s)  # after a stall go on by the clock, do not catch up
                    try:
                        await asyncio.sleep(max(0.0, begin + time_s - now))
                    except asyncio.CancelledError:  # the frame is read and counted: it is not lost
                        with suppress(RefusedError):
                            self.flow.submit(picture, time_s)
                        raise
                self.flow.submit(picture, time_s, more=picture is not pictures[-1])
            if len(pictures) == len(blanks) or reader.failed:
                continue
            if not self.spec.loop:
                return
            await self._answer(reader.rewind())
            media.restart()
            self.place.bookmarks.restart()

    def _note(self, note: str) -> None:
        """Show and log a note of the source; one that only counts on is logged once."""
        if note and not self.text:
            self.flow.log.warning("stream %s: %s: %s", self.flow.name, redacted(self.spec.source), note)
        self.text = note

    async def _play_endless(self) -> None:
        """Take frames at the source's pace; a source that is lost, or not there yet, is opened again and again."""
        reader = self._new_reader()
        self._media.period = None
        self._media.restart()
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
            await self._stop(reader)

    async def _take_all(self, reader: Reader, source: Source) -> None:
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            reader.timed = self.flow.traces.active
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
