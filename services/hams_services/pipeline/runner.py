"""A stream fed from its source: opens it, plays it at its pace, opens it again when it was live and is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hams_services.pipeline.replicas import Replicas
from hams_services.pipeline.sources import Source, open_source
from hams_services.pipeline.sources.backoff import Backoff
from hams_services.pipeline.sources.reader import Reader
from hams_services.pipeline.stream import Flow, Peers
from hams_shared.bus import Bus
from hams_shared.errors import HamsError, OverloadedError, SourceError, as_hams_error
from hams_shared.frames import Pixels
from hams_shared.group_spec import GroupSpec, StreamSpec
from hams_shared.messages import PushAnswer, StreamView
from hams_shared.source_kind import LIVE, shown, source_kind

log = logging.getLogger("hams.pipeline")

QUIET_S = 5.0
"""An application that has pushed nothing for so long is waited for."""
DEFAULT_FPS = 25.0
"""Of a file without a clock, such as a folder of images."""


class StreamRunner:
    """A flow fed from a source."""

    def __init__(self, bus: Bus, group: GroupSpec, stream: str, cache: Path, peers: Peers, replicas: Replicas) -> None:
        self.spec: StreamSpec = group.streams[stream]
        self.kind = source_kind(self.spec.source)
        lossless = self.spec.mode == "lossless"
        self.flow = Flow(bus, group, stream, lossless=lossless, publish=True, peers=peers, replicas=replicas)
        self.state = "waiting"
        self.text = ""
        self.reconnects = 0
        self._cache = cache
        self._pushed: float | None = None
        """When the newest pushed frame came, monotonic s."""

    def view(self) -> StreamView:
        """As `status` shows it."""
        state, text = self.state, self.text
        if self.kind == "push":
            quiet = None if self._pushed is None else time.monotonic() - self._pushed
            state = "playing" if quiet is not None and quiet < QUIET_S else "waiting"
            text = "" if state == "playing" else "no frame was pushed" + (f" for {quiet:.0f} s" if quiet else " yet")
        return self.flow.view(state, text, kind=self.kind, reconnects=self.reconnects)

    async def run(self) -> None:
        """Play the source; a file to its end and until the last frame is done (state ``ended`` or ``failed``)."""
        await self._wait(lambda: self.flow.core.plan is not None)
        if self.kind == "push":
            return
        reader = Reader(f"{self.flow.name} ({shown(self.spec.source)})")
        try:
            if self.kind in LIVE:
                await self._play_live(reader)
            else:
                await self._play(reader, await self._open(reader))
            await self._wait(lambda: self.flow.core.idle)
            self.state = "ended"
        except Exception as error:
            if not isinstance(error, HamsError):
                log.exception("stream %s broke", self.flow.name)
            await self._wait(lambda: self.flow.core.idle)
            self.state, self.text = "failed", str(as_hams_error(error))
            log.error("stream %s: %s", self.flow.name, self.text)
        finally:
            await reader.stop()

    async def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.flow.changed.clear()
            await self.flow.changed.wait()

    async def _open(self, reader: Reader) -> Source:
        source = await reader.open(partial(open_source, self.spec.source, self._cache))
        self.state, self.text = "playing", ""
        return source

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _play(self, reader: Reader, source: Source) -> None:
        rate = self.spec.fps or source.fps or DEFAULT_FPS
        period = 1.0 / rate if self.spec.pace == "realtime" else 0.0
        due = time.monotonic()
        while True:
            await self._wait(lambda: self.flow.core.wants_frame)
            image = await reader.read(self.flow.frames.blank())
            if image is None:
                if not self.spec.loop:
                    return
                await reader.rewind()
                continue
            now = time.monotonic()
            if period:
                due = max(due, now - period)  # after a stall go on at the clock's rate, do not catch up
                await asyncio.sleep(max(0.0, due - now))
                due += period
            self.flow.submit(image)

    # ── live sources ──────────────────────────────────────────────────────────────────────────────────────────

    async def _play_live(self, reader: Reader) -> None:
        """Receive for ever: a source that is not there, or no more, is tried again."""
        backoff = Backoff()
        while True:
            since: float | None = None
            try:
                await self._open(reader)
                since = time.monotonic()
                await self._receive(reader)
            except SourceError as error:
                pause = backoff.lost(time.monotonic() - since if since is not None else 0.0, random.random())
                self.reconnects += since is not None
                self.state = "reconnecting"
                self.text = f"{error}; attempt {backoff.attempt} follows in {pause:.1f} s"
                if backoff.attempt & (backoff.attempt - 1) == 0:  # 1, 2, 4, 8 …: it may be away for days
                    log.warning("stream %s: %s", self.flow.name, self.text)
                await reader.release()
                await asyncio.sleep(pause)

    async def _receive(self, reader: Reader) -> None:
        """Take frames as they come, or at most `fps` of them. Raises SourceError when the source is lost."""
        period = 1.0 / self.spec.fps if self.spec.fps else 0.0
        due = 0.0
        while True:
            image = await reader.read(self.flow.frames.blank())
            if image is None:
                raise SourceError(f"{shown(self.spec.source)}: the stream ended")
            now = time.monotonic()
            if now < due - period / 4:  # a camera's clock is not exact
                continue
            due = max(due + period, now)
            self.flow.submit(image)

    # ── pushed frames ─────────────────────────────────────────────────────────────────────────────────────────

    async def push(self, image: Pixels, wait_s: float) -> PushAnswer:
        """Take a frame that an application sent.

        Raises:
            OverloadedError: lossless, and no room within `wait_s`.
        """
        self._pushed = time.monotonic()
        core = self.flow.core
        if core.lossless and not core.wants_frame:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wait(lambda: core.wants_frame)
            except TimeoutError:
                raise self._full() from None
        dropped = core.ledger.dropped.total()
        frame = self.flow.submit(image)
        return PushAnswer(frame=frame, overloaded=core.ledger.dropped.total() > dropped)

    def _full(self) -> OverloadedError:
        core = self.flow.core
        if core.plan is None:
            return OverloadedError(f"the group of stream {self.flow.name} does not serve", "see `hams-ctl status`")
        text = f"stream {self.flow.name} is full: {len(core.flights)} frames are under way"
        return OverloadedError(text, "push slower, or wait for room: push(…, wait=SECONDS)")
