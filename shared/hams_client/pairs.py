"""Results and pictures of the same frames, which come on two subjects."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from hams_client.arrived import Arrived
from hams_client.result import Result
from hams_shared.bus.protocol import Bus
from hams_shared.wire import codec
from hams_shared.wire.messages.pipeline import FramePicture

Key = tuple[str, int]


@dataclass
class Pairs:
    """Holds what has no partner yet; at most `limit` of each kind, the oldest is dropped. Pure."""

    limit: int
    _results: OrderedDict[Key, Result] = field(default_factory=OrderedDict)
    _pictures: OrderedDict[Key, bytes] = field(default_factory=OrderedDict)

    def result(self, result: Result) -> tuple[Result, bytes] | None:
        """Take a result; return the pair when its picture is there."""
        key = (result.stream, result.frame)
        picture = self._pictures.pop(key, None)
        if picture is not None:
            return result, picture
        self._results[key] = result
        while len(self._results) > self.limit:
            self._results.popitem(last=False)
        return None

    def picture(self, stream: str, frame: int, jpeg: bytes) -> tuple[Result, bytes] | None:
        """Take a picture; return the pair when its result is there."""
        key = (stream, frame)
        result = self._results.pop(key, None)
        if result is not None:
            return result, jpeg
        self._pictures[key] = jpeg
        while len(self._pictures) > self.limit:
            self._pictures.popitem(last=False)
        return None


class PairQueue:
    """Messages in, pairs of result and JPEG out; a slow reader loses the oldest of `limit` pairs."""

    def __init__(self, bus: Bus, limit: int) -> None:
        self._pairs = Pairs(limit)
        self._arrived: Arrived[tuple[Result, bytes] | BaseException] = Arrived(bus, limit)

    async def on_result(self, data: bytes) -> None:
        """Take a result's message. Raises MessageError."""
        self._put(self._pairs.result(Result.from_bytes(data)))

    async def on_picture(self, data: bytes) -> None:
        """Take a picture's message. Raises MessageError."""
        picture = codec.decode(FramePicture, data)
        self._put(self._pairs.picture(picture.stream, picture.frame, picture.jpeg))

    def on_end(self, task: asyncio.Task[None]) -> None:
        """Hand the error of an ended task to the reader."""
        self._put(None if task.cancelled() else task.exception())

    async def next(self) -> tuple[Result, bytes]:
        """Wait for the next pair. Raises what a task ended with, or BrokerError once the connection has."""
        item = await self._arrived.next()
        if isinstance(item, BaseException):
            raise item
        return item

    def _put(self, item: tuple[Result, bytes] | BaseException | None) -> None:
        if item is not None:
            self._arrived.put(item)
