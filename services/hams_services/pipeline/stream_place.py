"""Where a stream is in its source, kept over restarts of the pipeline: see :mod:`hams_services.pipeline.positions`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hams_services.pipeline.bookmarks import Bookmarks
from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.media_time import MediaTime
from hams_services.pipeline.positions import Positions
from hams_services.pipeline.sources.base import Source
from hams_services.pipeline.sources.reader import Reader
from hams_shared.errors import BrokerError, DeadlineError
from hams_shared.group.source_kind import SourceKind
from hams_shared.wire.messages.results import PositionRecord

AGAIN_S = 1.0
"""Pause before a position is read or written again, s."""
STOPPED = "pipeline-stopped"
"""Why a group is stopped that is not taken away."""


def may_go_on_at(core: StreamCore) -> set[int]:
    """Return the frames at which the stream may go on, now or later: those that have not ended, and the next one."""
    return {core.goes_on_at, core.ledger.submitted, *core.ledger.open, *core.to_publish}


class StreamPlace:
    """The place of one stream; `kind` and `ended` are asked when it is written."""

    def __init__(self, flow: Flow, kind: Callable[[], SourceKind], ended: Callable[[], bool]) -> None:
        self.flow, self._kind, self._ended = flow, kind, ended
        self.bookmarks = Bookmarks()
        self._positions: Positions | None = None
        self._left: PositionRecord | None = None
        """Where an earlier life of the pipeline left the stream; None: nowhere, or it was taken over."""
        self._restarts = 0
        self._identity = ""
        """Of the source, once it is known."""
        self._published = -1
        """The newest frame whose result was stored before the pipeline was started again."""

    @property
    def resumable(self) -> bool:
        """Whether a later pipeline goes on where this one was: of live streams the newest frame counts."""
        return self.flow.core.lossless and self._kind() in ("file", "push")

    def position(self) -> PositionRecord | None:
        """Where the stream is now; None: it has none yet, or never has one."""
        if not self.resumable or not self._identity:
            return None
        core = self.flow.core
        frame, ledger = core.goes_on_at, core.ledger
        return PositionRecord(
            source=self._identity,
            series=self.flow.series,
            frame=frame,
            mark=self.bookmarks.behind(frame),
            ended=self._ended(),
            gated=ledger.gated,
            dropped={reason: count for reason, count in ledger.dropped.items() if reason != STOPPED},
            failed=dict(ledger.failed),
            restarts=self._restarts,
        )

    async def resume(self, positions: Positions, left: PositionRecord | None) -> None:
        """Keep the stream's place in `positions`; go on where an earlier life `left` it, once its source is known."""
        self._positions, self._left = positions, left if self.resumable else None
        if self._kind() == "push" and self.resumable:
            await self._settle("push")

    async def find(self, reader: Reader, source: Source, media: MediaTime, *, own_clock: bool) -> bool:
        """Go to the place in a source that was just opened; return whether there is more to play.

        `own_clock`: frames come with times of their source.
        """
        if self._identity not in ("", source.identity) and self.bookmarks.index:
            text = "stream %s: its source, or which of its frames are read, is another one than before: it begins anew"
            self.flow.log.warning(text, self.flow.name)
            self.other_source()
        left = await self._settle(source.identity)
        if left is not None and left.ended:
            return False
        if left is not None and left.mark is not None:
            media.resume(left.mark, own_clock=own_clock)
        if self.bookmarks.index:
            await reader.skip(self.bookmarks.index, self.bookmarks.at)
        return True

    def other_source(self) -> None:
        """Another source follows, from its beginning."""
        self.bookmarks = Bookmarks()

    def read(self, at: float | None, media: MediaTime) -> bool:
        """Take a frame that was read; return whether it is to be submitted: else its result was stored before.

        A live stream has bookmarks, too: it may become lossless. No more are kept than the frames under way need.
        """
        frame = self.flow.core.ledger.submitted
        self.bookmarks.read(frame, at, media.now, media.step)
        if self.bookmarks.full:
            self.bookmarks.keep(may_go_on_at(self.flow.core))
        if frame > self._published:
            return True
        self.flow.core.ledger.deliver(self.flow.core.ledger.submit())
        return False

    async def _settle(self, identity: str) -> PositionRecord | None:
        """Take over what an earlier life left, return it, and write where the stream is; wait for the broker."""
        self._identity = identity
        left = self._left
        while True:
            try:
                if left is not None and not await self._taken_over(left):
                    left = None
                self._left = None
                if self._positions is not None:
                    await self._positions.write(self.flow.stream, self.position())
                return left
            except (BrokerError, DeadlineError) as error:
                self.flow.log.warning("stream %s: its position waits for the broker: %s", self.flow.name, error)
                await asyncio.sleep(AGAIN_S)

    async def _taken_over(self, left: PositionRecord) -> bool:
        """Take over the series and the frame numbers of the earlier life; False: its source was another one."""
        flow = self.flow
        if self._left is None:
            return True  # before the broker was away
        if left.source != self._identity:
            flow.log.warning("stream %s: its source is another one than before: it begins anew", flow.name)
            return False
        flow.series, self._restarts = left.series, left.restarts + 1
        self._published = await flow.publisher.last(left.series)
        frame = max(left.frame, self._published + 1) if self._kind() == "push" else left.frame
        flow.core.ledger.resume(frame, left.gated, left.dropped, left.failed)
        if left.mark is not None:
            self.bookmarks.resume(frame, left.mark)
        text = "stream %s goes on at frame %d, after a restart of the pipeline; its tracks begin anew"
        flow.log.info(text, flow.name, max(frame, self._published + 1))
        return True
