"""How results are made of frames, and leave the pipeline: to the subscribers present, or by the broker's journal."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flight import Close
from hams_services.pipeline.join import frame_result
from hams_services.pipeline.kept_results import KeptGroup, KeptResults
from hams_shared.bus import chunks
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.wire import subjects
from hams_shared.wire.results import FrameResult

AGAIN_S = 0.25
"""Pause before a result is published again, s."""
FLUSH_S = 3.0
"""Deadline of the last results of a stream that is closed, s."""


def result_of(close: Close, latency_ms: float, run: str, traceparent: str) -> FrameResult:
    """Return the result of a frame that is delivered, by the record that it ran under, perhaps by its candidate."""
    assert close.id is not None
    assert close.join is not None
    assert close.record is not None
    shot, version, group = close.shot, close.record.version, close.record.spec.name
    id = replace(close.id, group=group)
    result = frame_result(
        id, close.join, close.objects, shot.size, shot.media_time_s, latency_ms, run, traceparent, version
    )
    if close.id.group != group:
        result["candidate"] = True
    return result


class Publisher:
    """The results of one stream; a task of the caller runs :meth:`run`."""

    def __init__(
        self,
        bus: Bus,
        kept: KeptGroup,
        core: StreamCore,
        log: logging.LoggerAdapter[logging.Logger],
        on_published: Callable[[], None],
    ) -> None:
        """`on_published` is called when there is room for another frame."""
        self._bus, self._group, self._core, self._log = bus, kept, core, log
        self._name, self._subject = f"{kept.group}/{core.stream}", subjects.result(kept.group, core.stream)
        self._on_published = on_published
        self._closed = False
        self._waits_for_room: deque[bool] = deque()
        """For each result that waits to be stored: whether there is room for another frame only then."""
        self.kept = KeptResults(kept, core.stream, on_stored=self._stored, on_lost=self._lost)
        self.change()

    @property
    def complaint(self) -> str:
        """Why results wait; empty: none does."""
        return self.kept.complaint

    def change(self) -> None:
        """The stream is lossless or not, as its core says, from now on."""
        self.kept.change(lossless=self._core.lossless)

    async def last(self, series: str) -> int:
        """Return the newest frame of `series` whose result is stored, -1: none, or they are not kept."""
        return -1 if self._group.spec.keep is None else await self.kept.last(series)

    def _stored(self) -> None:
        if self._waits_for_room.popleft():
            self._on_published()

    def _lost(self) -> None:
        self._core.ledger.withdraw("not-stored")
        self._stored()

    async def publish(self, series: str, frame: int, data: bytes) -> None:
        """Publish a result; while the broker is away it waits.

        The full window then stops the source. Where results are kept, only that of a lossless stream: a live one's wait
        up to a bound. Once the stream is closed, one that is not kept is lost then.
        """
        if self._group.spec.keep is not None or self.kept.waiting:
            self._waits_for_room.append(self._core.lossless)
            self.kept.put(series, frame, data)
            if not self._core.lossless:
                self._on_published()
            return
        while True:
            try:
                await chunks.publish(self._bus, self._subject, data)
                break
            except HamsError as error:
                what = "lost" if self._closed else "waits"
                self._log.warning("stream %s: result %s: %s", self._name, what, error)
                if self._closed:
                    break
                await asyncio.sleep(AGAIN_S)
        self._on_published()

    def close(self) -> None:
        """The stream is closed: wait for the broker no longer."""
        self._closed = True

    async def run(self) -> None:
        """Store results until cancelled, where they are kept."""
        await self.kept.run()

    async def flush(self) -> None:
        """Wait for the results that are to be stored, FLUSH_S at most. :meth:`run` must run meanwhile."""
        await self.kept.flush(FLUSH_S)
