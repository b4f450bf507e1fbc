"""A folder of short videos of events: what :mod:`clip_core` decides, on the disk."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from hams_client import Event, Result
from hams_services.sinks.best_crops import BestCrops
from hams_services.sinks.clip_core import Clip, ClipCore, Frame, time_of
from hams_services.sinks.disk import free, moment, write
from hams_services.sinks.last_sequence import LastSequence
from hams_services.sinks.painter import Painter
from hams_services.sinks.retention import KeptList
from hams_services.sinks.video import VideoFile, even
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec
from hams_shared.wire.frames import Pixels
from hams_shared.wire.results import FrameResult

LIST = "clips.jsonl"
LAST = "last"
"""The file with the place where a restart reads on."""
KNOWN = 10_000
"""Events at the end of the list that are not written again."""
TICK_S = 0.5
"""How long one wait lasts, s."""
WAITING = 64
"""Clips that take no more frames and wait to be written; with more, events are not read meanwhile."""


class ClipFolder:
    """``FOLDER/TIME-STREAM-RULE-TRACK.mp4`` for each clip, a line for each event in ``FOLDER/clips.jsonl``.

    `painter` draws the results, None: nothing. `crops`: the best crop of each track with an event is beside its clip.

    Raises:
        SourceError: the folder cannot be written.
    """

    def __init__(self, folder: Path, painter: Painter | None = None, *, crops: bool = False) -> None:
        self._folder, self.list, self.last = folder, folder / LIST, folder / LAST
        self._painter, self._crops = painter, crops
        self._files: dict[Clip, VideoFile] = {}
        self._painters: dict[Clip, Painter] = {}
        self._best: dict[Clip, BestCrops] = {}
        self.written = 0
        """Clips with at least one frame."""
        self.missed = 0
        """Events of which no frame was left."""
        self.kept = KeptList(self.list)
        self.kept.append(b"")
        self.known = deque[str](maxlen=KNOWN)
        """Ids of the events in the list."""
        self._read_list()

    def _read_list(self) -> None:
        line = b"\n"
        with self.list.open("rb") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # one that was cut by a crash
                    self.known.append(str(json.loads(line)["event"]["id"]))
        if not line.endswith(b"\n"):
            self.kept.append(b"\n")

    def add(self, clip: Clip, frame: Frame) -> None:
        """Write the next frame of a clip. Raises SourceError. One thread at a time for one clip."""
        image = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            return
        pixels: Pixels = np.asarray(image, np.uint8)
        result = Result(cast(FrameResult, codec.unpack(frame.result)))
        if self._crops:
            self._best.setdefault(clip, BestCrops()).add(result.objects, pixels)
        if self._painter is not None:
            pixels = self._painters.setdefault(clip, Painter(self._painter.regions)).paint(result, pixels)
        pixels = even(pixels)
        if clip not in self._files:
            height, width = pixels.shape[:2]
            self._files[clip] = VideoFile(self._free(name(clip.events[0])), (width, height), frame.time)
        self._files[clip].write(pixels, frame.time)

    def finish(self, clip: Clip) -> Path | None:
        """Finish a clip and list its events; return its file, None where it has no frame. Raises SourceError."""
        self._painters.pop(clip, None)
        file, best = self._files.pop(clip, None), self._best.pop(clip, None)
        if file is not None:
            file.close()
        path = None if file is None else file.path
        lines = [{"event": event.model_dump(mode="json")} | _entry(clip, event, path) for event in clip.events]
        for line, event in zip(lines, clip.events, strict=True):
            if path is not None and best is not None and (jpeg := best.of(event.track)) is not None:
                beside = path.with_name(f"{path.stem}-best-{event.track}.jpg")
                write(beside, jpeg)
                line["crop"] = beside.name
        self.kept.append("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        self.known += (event.id for event in clip.events)
        self.written += path is not None
        self.missed += len(clip.events) if path is None else 0
        return path

    def close(self) -> None:
        """Close the files of clips that are not finished."""
        for file in self._files.values():
            with suppress(Exception):
                file.close()
        self._files.clear()

    def _free(self, stem: str) -> Path:
        """Return a name that no file has: one that is there is of a sink that was killed, or of another event."""
        taken = {self._files[clip].path for clip in list(self._files)}
        return free(self._folder / f"{stem}.mp4", taken)


def name(event: Event) -> str:
    """Return the name of the clip that begins with an event: time (UTC), stream, rule or kind, track."""
    what = event.rule or event.kind
    parts = moment(event.captured), event.stream, what, str(event.track)
    return "-".join(re.sub(r"[^\w.]", "_", part) for part in parts)


def _entry(clip: Clip, event: Event, path: Path | None) -> dict[str, Any]:
    at = None if path is None else round(time_of(event) - clip.first_time, 3)
    return {
        "file": None if path is None else path.name,
        "first": clip.first,
        "last": clip.last,
        "frames": clip.frames,
        "lost": clip.lost,
        "at_s": at,
    }


class ClipSink:
    """Takes frames and events, writes clips. `now`: the clock, s; `done` gets each clip's file.

    Frames are encoded in threads, a frame of each clip at a time; meanwhile they wait in the ring.
    """

    def __init__(
        self,
        core: ClipCore,
        folder: ClipFolder,
        now: Callable[[], float],
        done: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._core, self._folder, self._now, self._done = core, folder, now, done
        self._last = LastSequence(folder.last)
        self.after = self._last.read()
        """The sequence behind which events are to be read; None: only new ones."""
        self._settled = self.after
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._closing = False

    def frame(self, result: Result, jpeg: bytes) -> None:
        """Take a frame."""
        time = result.captured if result.media_time_s is None else result.media_time_s
        run = str(result.data.get("run", ""))
        frame = Frame(run, result.frame, time, jpeg, codec.pack(result.data))
        if self._core.add_frame(result.stream, frame, self._now()):
            self._news.set()

    async def event(self, event: Event, *, wanted: bool) -> None:
        """Take an event; waits while too many clips are to be written."""
        if not wanted or event.id in self._folder.known or self._core.has(event.id):
            self._core.pass_by(event.sequence)
            return
        while self._core.complete >= WAITING:
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._room.wait()
        self._core.add_event(event, self._now())
        self._keep()
        self._news.set()

    async def run(self, readers: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Run `readers` until one ends, or this is cancelled; then finish the clips. Raises SourceError, and theirs."""
        writer = asyncio.create_task(self._write())
        tasks = [asyncio.create_task(reader) for reader in readers]
        try:
            await asyncio.wait([*tasks, writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(tasks)
            self._core.close()
            self._closing = True
            self._news.set()
            await writer
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _write(self) -> None:
        try:
            while self._core.clips or not self._closing:
                self._news.clear()
                self._core.tick(self._now())
                if not await self._step():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(TICK_S):
                            await self._news.wait()
        finally:
            self._folder.close()

    async def _step(self) -> bool:
        """Write the next frame of each clip, and finish those that are complete; return whether there was any."""
        found = [(clip, self._core.take(clip)) for clip in list(self._core.clips)]
        done = [clip for clip, frame in found if frame is None and clip.stop is not None]
        adding = (asyncio.to_thread(self._folder.add, clip, frame) for clip, frame in found if frame is not None)
        failures = [one for one in await asyncio.gather(*adding, return_exceptions=True) if one is not None]
        if failures:
            raise failures[0]
        for clip in done:
            path = await asyncio.to_thread(self._folder.finish, clip)
            self._core.forget(clip)
            self._keep()
            self._room.set()
            if path is not None:
                self._done(path)
        return any(frame is not None for _, frame in found) or bool(done)

    def _keep(self) -> None:
        """Keep the place from which a restart reads events."""
        settled = self._core.settled
        if settled != self._settled:
            self._last.write(settled)
            self._settled = settled
