"""A connection for applications: hear joined results, send images, feed streams, listen to single nodes.

    async with hams_client.connect() as hams:
        async for result in hams.results("face", stream="lobby"):
            for face in result.objects:
                print(face.label, face.score, face.box, face["age"]["value"])

Scripts that do not use asyncio take :mod:`hams_client.sync`: the same methods, blocking.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_client.pairs import Pairs
from hams_client.result import Result
from hams_shared import codec, subjects
from hams_shared.bus import Bus, Message, Subscription
from hams_shared.chunks import Assembler
from hams_shared.errors import BadInputError, MessageError, SourceError, from_wire
from hams_shared.frames import Output
from hams_shared.messages import (
    PICTURES_LEASE_S,
    FramePicture,
    InferAnswer,
    InferRequest,
    PicturesWanted,
    PushAnswer,
    PushRequest,
)
from hams_shared.nats_bus import NatsBus
from hams_shared.options import DEFAULT_NATS

log = logging.getLogger("hams.client")

Image = bytes | Path | str | NDArray[np.uint8]
"""An encoded image (JPEG, PNG …), the path of one, or pixels: height×width×3, uint8, in the order B, G, R."""


def _payload(image: Image) -> tuple[bytes, tuple[int, int, int] | None]:
    """Return what travels: bytes, and the shape when they are raw pixels."""
    if isinstance(image, bytes):
        return image, None
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            shape = "×".join(map(str, image.shape))
            raise BadInputError(f"an image is height×width×3 of uint8, not {shape} of {image.dtype}")
        height, width, _ = image.shape
        return np.ascontiguousarray(image).tobytes(), (height, width, 3)
    try:
        return Path(image).read_bytes(), None
    except OSError as error:
        raise SourceError(f"cannot read {image}: {error.strerror}") from None


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

    async def tap(self, group: str, node: str, stream: str = "*", *, limit: int = 256) -> AsyncIterator[Output]:
        """Yield one node's outputs as they come, until the caller stops; a slow caller loses the oldest."""
        async with aclosing(self._messages(subjects.output(group, stream, node), limit)) as messages:
            async for data in messages:
                try:
                    output = Output.unpack(data)
                except MessageError as error:
                    log.warning("an output of %s/%s is ignored: %s", group, node, error)
                    continue
                yield output

    async def pictures(
        self, group: str, stream: str = "*", *, quality: int = 90, limit: int = 64
    ) -> AsyncGenerator[tuple[Result, NDArray[np.uint8]], None]:
        """Yield delivered frames with their results, until the caller stops: height×width×3, B, G, R.

        The pipeline sends pictures (JPEG of `quality`, 1–100) only while somebody asks for them, which this does; that
        takes it some ms of CPU time a frame. A slow caller loses the oldest.
        """
        pairs = Pairs(limit)
        queue: asyncio.Queue[tuple[Result, bytes]] = asyncio.Queue(limit)

        def put(pair: tuple[Result, bytes] | None) -> None:
            if pair is not None:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(pair)

        async def on_result(data: bytes) -> None:
            put(pairs.result(Result.from_bytes(data)))

        async def on_picture(data: bytes) -> None:
            picture = codec.decode(FramePicture, data)
            put(pairs.picture(picture.stream, picture.frame, picture.jpeg))

        async def ask() -> None:
            wish = codec.encode(PicturesWanted(stream=stream, quality=quality))
            while True:
                await self.bus.publish(subjects.pictures_wanted(group), wish)
                await asyncio.sleep(PICTURES_LEASE_S / 3)

        subscriptions = [
            await self._assembled(subjects.picture(group, stream), on_picture, limit),
            await self._assembled(subjects.result(group, stream), on_result, limit),
        ]
        asking = asyncio.create_task(ask())
        try:
            while True:
                result, jpeg = await queue.get()
                image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                if image is not None:
                    yield result, np.asarray(image, np.uint8)
        finally:
            asking.cancel()
            for subscription in subscriptions:
                await subscription.unsubscribe()

    async def _assembled(self, subject: str, handler: Callable[[bytes], Awaitable[None]], limit: int) -> Subscription:
        """Subscribe `handler` to whole messages; those that are not understood are logged."""
        assembler = Assembler()

        async def take(message: Message) -> None:
            try:
                data = assembler.take(message.data, time.monotonic())
                if data is not None:
                    await handler(data)
            except MessageError as error:
                log.warning("message on %s ignored: %s", message.subject, error)

        subscription = await self.bus.subscribe(subject, take, limit=limit)
        await self.bus.flush()
        return subscription

    async def _messages(self, subject: str, limit: int) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(limit)

        async def put(data: bytes) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(data)

        subscription = await self._assembled(subject, put, limit)
        try:
            while True:
                yield await queue.get()
        finally:
            await subscription.unsubscribe()

    async def infer(self, group: str, image: Image, *, deadline: float = 30.0) -> Result:
        """Put one image through a deployed group and return the joined result.

        Raises:
            NotFoundError: no such group is deployed, or no pipeline runs.
            BadInputError, SourceError: `image` is no image, or cannot be read or decoded.
            DeadlineError: no result within `deadline` seconds.
            RefusedError: too many are under way, or a node failed on it.
        """
        data, shape = _payload(image)
        request = InferRequest(image=data, shape=shape, deadline_s=deadline)
        answer = codec.decode(InferAnswer, await self._ask(subjects.infer(group), codec.encode(request), deadline))
        if answer.error is not None or answer.result is None:
            raise from_wire(answer.error.model_dump() if answer.error else {})
        return Result(answer.result)

    async def push(self, group: str, stream: str, image: Image, *, deadline: float = 30.0) -> int:
        """Give the next frame to a stream whose source is ``push``; return its number once it was taken.

        A lossless stream takes it when there is room in its window, so a loop of pushes runs as fast as the group; a
        live one takes it at once, and drops an older frame that still waits. The result comes with the others: see
        :meth:`results`.

        Raises:
            NotFoundError: no such group or stream, or no pipeline runs.
            BadInputError, SourceError: `image` is no image, or cannot be read or decoded.
            DeadlineError: there was no room within `deadline` seconds.
            RefusedError: too many pushes wait already.
        """
        data, shape = _payload(image)
        request = PushRequest(image=data, shape=shape, deadline_s=deadline)
        answer = codec.decode(
            PushAnswer, await self._ask(subjects.push(group, stream), codec.encode(request), deadline)
        )
        if answer.error is not None or answer.frame is None:
            raise from_wire(answer.error.model_dump() if answer.error else {})
        return answer.frame

    async def _ask(self, subject: str, data: bytes, deadline: float) -> bytes:
        if len(data) > self.bus.max_payload:
            raise BadInputError(
                f"an image of {len(data) >> 20} MiB is more than the broker takes", "send it as JPEG, or smaller"
            )
        message = await self.bus.request(subject, data, timeout=deadline + 2.0)
        return message.data


@asynccontextmanager
async def connect(url: str = DEFAULT_NATS) -> AsyncIterator[Hams]:
    """Connect to the broker at `url`. Raises BrokerError when nobody is there."""
    async with NatsBus(url, name="hams-client") as bus:
        yield Hams(bus)
