"""How far each lossless stream of a group has come, kept by the broker: a restarted pipeline goes on there.

A position is written twice a second at most, and at the end. It is that of the first frame whose result is not
published yet, so frames behind it may run twice, and none is left out.

KV bucket hams-positions, key <group>.stream.<stream>
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from hams_services.pipeline.kept_results import KeptGroup
from hams_shared.bus.protocol import Bus, Entry, KeyValue
from hams_shared.bus.records import opened
from hams_shared.errors import HamsError, MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import PositionRecord

log = logging.getLogger("hams.pipeline")

EVERY_S = 0.5
"""Least time between two writes of a stream's position, s."""
RECOVER_S = 30.0
"""Deadline of reading the positions that an earlier life left, s."""
FLUSH_S = 3.0
"""Deadline of the last write, and of the broker for taking the results before a write, s."""

Read = Callable[[], PositionRecord | None]
"""Returns where a stream is now; None: it has no position yet, or never has one."""


class Positions:
    """The positions of one group's streams."""

    def __init__(self, bus: Bus, kept: KeptGroup) -> None:
        self._bus, self._group, self._kept = bus, kept.group, kept
        self._bucket: KeyValue | None = None
        self._written: dict[str, PositionRecord] = {}

    async def recover(self) -> dict[str, PositionRecord]:
        """Return by stream what an earlier life left; nothing, and say so, where it cannot be read for RECOVER_S."""
        found: dict[str, PositionRecord] = {}
        try:
            async with asyncio.timeout(RECOVER_S):
                entries = await self._entries()
        except TimeoutError:
            log.error("group %s: positions are not read: its streams begin anew", self._group)
            return found
        prefix = f"{self._group}.stream."
        for key, entry in entries.items():
            if not key.startswith(prefix) or entry.value is None:
                continue
            try:
                record = codec.decode(PositionRecord, entry.value)
            except MessageError as error:
                log.error("position %s ignored: %s", key, error)
                continue
            found[key.removeprefix(prefix)] = record
        return found

    async def _entries(self) -> dict[str, Entry]:
        while True:
            try:
                return await (await self._opened()).entries()
            except HamsError as error:
                log.warning("group %s: positions are not read yet: %s", self._group, error)
                await asyncio.sleep(EVERY_S)

    async def run(self, streams: Callable[[], Mapping[str, Read]]) -> None:
        """Write positions until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            for stream, read in streams().items():
                try:
                    await self.write(stream, read())
                except HamsError as error:
                    log.info("position of %s/%s not written: %s", self._group, stream, error)

    async def write(self, stream: str, position: PositionRecord | None) -> None:
        """Write a position that has changed. Raises BrokerError, DeadlineError."""
        if position is None or position == self._written.get(stream):
            return
        if self._kept.spec.keep is None:
            await self._bus.flush(FLUSH_S)  # the broker has the results before it has the position behind them
        await (await self._opened()).put(f"{self._group}.stream.{stream}", codec.encode(position))
        self._written[stream] = position

    async def end(self, streams: Mapping[str, Read]) -> None:
        """Write the last positions, if the broker is there."""
        try:
            async with asyncio.timeout(FLUSH_S):
                for stream, read in streams.items():
                    await self.write(stream, read())
        except (HamsError, TimeoutError) as error:
            log.error("group %s: last positions are not written: %s", self._group, error or "the broker is away")

    async def forget(self, streams: Iterable[str]) -> None:
        """Forget all positions: the group is taken away, or deployed anew."""
        try:
            async with asyncio.timeout(FLUSH_S):
                for stream in streams:
                    self._written.pop(stream, None)
                    await (await self._opened()).delete(f"{self._group}.stream.{stream}")
        except (HamsError, TimeoutError) as error:
            log.info("group %s: positions of its streams are left: %s", self._group, error or "the broker is away")

    async def _opened(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await opened(self._bus.kv, subjects.POSITIONS)
        return self._bucket
