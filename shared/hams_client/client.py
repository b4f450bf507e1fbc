"""A connection for applications: subscribe to joined results, send single images.

async with hams_client.connect() as hams:
    async for result in hams.results("face"):
        print(result.frame, len(result.objects))
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hams_shared import codec, subjects
from hams_shared.bus import Bus, Message
from hams_shared.chunks import Assembler
from hams_shared.errors import MessageError, from_wire
from hams_shared.frames import Output
from hams_shared.messages import InferAnswer, InferRequest
from hams_shared.nats_bus import NatsBus
from hams_shared.options import DEFAULT_NATS

log = logging.getLogger("hams.client")


@dataclass(frozen=True)
class Result:
    """The joined result of one frame. The raw map, as docs/messages.md describes it, is in `data`."""

    data: dict[str, Any]

    @property
    def group(self) -> str:
        """The group it comes from."""
        return str(self.data["group"])

    @property
    def stream(self) -> str:
        """The stream it comes from."""
        return str(self.data["stream"])

    @property
    def frame(self) -> int:
        """The frame's number in its stream, from 0."""
        return int(self.data["frame"])

    @property
    def captured(self) -> float:
        """When the frame was read, Unix time in s."""
        return float(self.data["captured"])

    @property
    def latency_ms(self) -> float:
        """From capture to join, ms."""
        return float(self.data["latency_ms"])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame, pixels."""
        return int(self.data["width"]), int(self.data["height"])

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What was found: `box` [x0, y0, x1, y1] in pixels, `score`, `label`, and one key per child node."""
        objects: list[dict[str, Any]] = self.data["objects"]
        return objects

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Per node: its device, and timings in ms."""
        nodes: dict[str, dict[str, Any]] = self.data["nodes"]
        return nodes

    @classmethod
    def from_bytes(cls, data: bytes) -> Result:
        """Decode a result message. Raises MessageError."""
        value = codec.unpack(data)
        if not isinstance(value, dict) or not isinstance(value.get("objects"), list) or "frame" not in value:
            raise MessageError("not a HAMS result")
        return cls(value)


class Hams:
    """A connection to a HAMS system; made by :func:`connect`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def results(self, group: str, stream: str = "*", *, limit: int = 256) -> AsyncIterator[Result]:
        """Yield joined results as they come, until the caller stops.

        A caller slower than the stream loses the oldest results beyond `limit`; it never slows the group.
        """
        async with aclosing(self._messages(subjects.result(group, stream), limit)) as messages:
            async for data in messages:
                try:
                    result = Result.from_bytes(data)
                except MessageError as error:
                    log.warning("a result of %s is ignored: %s", group, error)
                    continue
                yield result

    async def outputs(self, group: str, node: str, stream: str = "*", *, limit: int = 256) -> AsyncIterator[Output]:
        """Yield one node's outputs as they come, until the caller stops; a slow caller loses the oldest."""
        async with aclosing(self._messages(subjects.output(group, stream, node), limit)) as messages:
            async for data in messages:
                try:
                    output = Output.unpack(data)
                except MessageError as error:
                    log.warning("an output of %s/%s is ignored: %s", group, node, error)
                    continue
                yield output

    async def _messages(self, subject: str, limit: int) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(limit)
        assembler = Assembler()

        async def take(message: Message) -> None:
            try:
                data = assembler.take(message.data, time.monotonic())
            except MessageError as error:
                log.warning("message on %s ignored: %s", message.subject, error)
                return
            if data is None:
                return
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(data)

        subscription = await self.bus.subscribe(subject, take, limit=limit)
        await self.bus.flush()
        try:
            while True:
                yield await queue.get()
        finally:
            await subscription.unsubscribe()

    async def infer(self, group: str, image: bytes, *, deadline: float = 30.0) -> Result:
        """Send one encoded image (JPEG, PNG …) through a deployed group and return the joined result.

        Raises:
            NotFoundError: no such group is deployed, or no pipeline runs.
            SourceError: `image` cannot be decoded.
            DeadlineError: no result within `deadline` seconds.
        """
        request = InferRequest(image=image, deadline_s=deadline)
        message = await self.bus.request(subjects.infer(group), codec.encode(request), timeout=deadline + 2.0)
        answer = codec.decode(InferAnswer, message.data)
        if answer.error is not None or answer.result is None:
            raise from_wire(answer.error.model_dump() if answer.error else {})
        return Result(answer.result)


@asynccontextmanager
async def connect(url: str = DEFAULT_NATS) -> AsyncIterator[Hams]:
    """Connect to the broker at `url`. Raises BrokerError when nobody is there."""
    async with NatsBus(url, name="hams-client") as bus:
        yield Hams(bus)
