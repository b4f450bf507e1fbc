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
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hams_client.events import Event, events
from hams_client.feed import Feed
from hams_client.history import HistoryEntry, history
from hams_client.kept import kept
from hams_client.pairs import PairQueue
from hams_client.requested import Requested, repeat
from hams_client.result import Result
from hams_shared.bus import chunks
from hams_shared.bus.ask import ask
from hams_shared.bus.chunks import MAX_BYTES, Assembler
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus, Message, Subscription
from hams_shared.errors import BadInputError, MessageError, NotFoundError, SourceError, from_wire
from hams_shared.runtime.credentials import load
from hams_shared.runtime.lifecycle import ended
from hams_shared.runtime.options import DEFAULT_NATS
from hams_shared.runtime.runfile import running
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.pipeline import (
    GroupSummary,
    GroupsView,
    InferAnswer,
    InferRequest,
    OutputsWanted,
    PicturesWanted,
    PushAnswer,
    PushRequest,
)
from hams_shared.wire.messages.trace import FrameTrace, TracesWanted
from hams_shared.wire.results import FrameResult

log = logging.getLogger("hams.client")

T = TypeVar("T")

LEAST_PENDING = 1024
"""Messages, or parts of them, that may wait to be taken off a subscription."""

Image = bytes | Path | str | NDArray[Any]
"""An encoded image (JPEG, PNG …), the path of one, or pixels: height×width×3, uint8, in the order B, G, R.

The type allows what OpenCV is declared to return; pixels of another type are refused when they are sent."""


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


@dataclass(frozen=True)
class Pushed:
    """The outcome of a push."""

    frame: int
    """Its number in the stream, as in its result."""
    overloaded: bool
    """A live stream dropped an older frame for it: frames are pushed faster than the group works."""


class Hams:
    """A connection to a HAMS system; made by :func:`connect`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def results(self, group: str, stream: str = "*", *, limit: int = 256) -> Feed[Result]:
        """Joined results as they come: ``async for result in hams.results("face")``.

        A caller slower than the stream loses the oldest results beyond `limit`; it never slows the group.
        """
        return self._feed(subjects.result(group, stream), Result.from_bytes, limit)

    def kept_results(
        self,
        group: str,
        stream: str | None = None,
        *,
        since: float | None = None,
        after: int | None = None,
        durable: str = "",
        follow: bool = True,
    ) -> AsyncGenerator[Result, bool | None]:
        """Joined results that the broker keeps, in order, each once: ``async for r in hams.kept_results("face")``.

        The group file says for how long: ``results: {keep: 1h}``. From now on, or from those of the last `since`
        seconds, or behind the one with the sequence `after`. With `durable`, a name of your choice, the pipeline keeps
        the place of the reader: it goes on where the last reader of this name was, at the first time as above. A result
        counts as dealt with once the next one is asked for, or by ``asend(True)``, which ends the iterator. A reader
        that is killed may get some again: to get each exactly once, keep `sequence` with what you made of the result,
        and begin with it as `after`.

        Without `follow` it ends with the newest one that is stored. While broker or pipeline are away, it waits. Of a
        group that keeps nothing, results from now on come as they come, see :meth:`results`.

        Raises:
            NotKeptError: the group keeps no results, and earlier ones or a `durable` reader are wanted.
            NotFoundError: no such group or stream, or no pipeline runs; only at the beginning.
            BadInputError: both `since` and `after`, a negative one, or no name of a reader.
        """

        async def otherwise() -> AsyncGenerator[Result, None]:
            async for result in self.results(group, stream or "*"):
                yield result

        return kept(self.bus, group, stream, since, after, durable, follow, otherwise)

    def tap(self, group: str, node: str, stream: str = "*", *, limit: int = 256) -> Feed[Output]:
        """One node's outputs as they come, before the join; a slow caller loses the oldest beyond `limit`.

        The pipeline sends them only while a client requests them, as this method does.
        """
        wanted = codec.encode(OutputsWanted(node=node, stream=stream))
        return self._feed(
            subjects.output(group, stream, node), Output.unpack, limit, (subjects.outputs_wanted(group), wanted)
        )

    def traces(self, group: str, stream: str = "*", *, count: int = 1, limit: int = 256) -> Feed[FrameTrace]:
        """What happened to frames, and when, once each has ended: of each stream, those that are read next.

        The pipeline traces `count` frames (1-100) at a time while a client requests them, as this method does.
        """
        wanted = codec.encode(TracesWanted(stream=stream, count=count))
        return self._feed(
            subjects.trace(group, stream),
            lambda data: codec.decode(FrameTrace, data),
            limit,
            (subjects.traces_wanted(group), wanted),
        )

    def _feed(
        self, subject: str, decode: Callable[[bytes], T], limit: int, request: tuple[str, bytes] | None = None
    ) -> Feed[T]:
        """What comes on `subject`, decoded; `request`: subject and payload of the request that keeps it coming."""

        async def subscribe(put: Callable[[T], None]) -> Subscription:
            async def take(data: bytes) -> None:
                put(decode(data))

            subscription = await self._assembled(subject, take, limit)
            return subscription if request is None else Requested(subscription, self.bus, *request)

        return Feed(self.bus, subscribe, limit)

    async def pictures(
        self, group: str, stream: str = "*", *, quality: int = 90, limit: int = 64
    ) -> AsyncGenerator[tuple[Result, NDArray[np.uint8]], None]:
        """Yield delivered frames with their results, until the caller stops: height×width×3, B, G, R.

        See :meth:`jpegs`, which does not decode them.
        """
        import cv2  # only pictures need it

        async with aclosing(self.jpegs(group, stream, quality=quality, limit=limit)) as found:
            async for result, jpeg in found:
                image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                if image is not None:
                    yield result, np.asarray(image, np.uint8)

    async def jpegs(
        self, group: str, stream: str = "*", *, quality: int = 90, limit: int = 64
    ) -> AsyncGenerator[tuple[Result, bytes], None]:
        """Yield delivered frames as JPEG with their results, until the caller stops.

        The pipeline sends pictures (JPEG of `quality`, 1–100) only while a client requests them, as this method does;
        each costs it some ms of CPU time. A slow caller loses the oldest.
        """
        pairs = PairQueue(self.bus, limit)
        wanted = codec.encode(PicturesWanted(stream=stream, quality=quality))
        async with AsyncExitStack() as begun:
            for subject, take in (
                (subjects.picture(group, stream), pairs.on_picture),
                (subjects.result(group, stream), pairs.on_result),
            ):
                begun.push_async_callback((await self._assembled(subject, take, limit)).unsubscribe)
            asking = asyncio.create_task(repeat(self.bus, subjects.pictures_wanted(group), wanted))
            begun.push_async_callback(ended, [asking])
            asking.add_done_callback(pairs.on_end)
            while True:
                yield await pairs.next()

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

        # what the bus drops are the newest, so it shall not be the one that drops: `take` is quick
        subscription = await self.bus.subscribe(subject, take, limit=max(4 * limit, LEAST_PENDING))
        try:
            await self.bus.flush()
        except BaseException:
            await subscription.unsubscribe()  # it would hear all once the broker is back
            raise
        return subscription

    def events(
        self,
        group: str,
        stream: str | None = None,
        *,
        since: float | None = None,
        after: int | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """Events of tracks, in order: ``async for event in hams.events("yard", since=600)``.

        From now on, or from those of the last `since` seconds, or behind the one with the sequence `after`. Without
        `follow` it ends with the newest one that is stored. To miss none over a restart, keep the `sequence` of the
        last event that was dealt with, and begin with it as `after`; it is given again only if a broker lost its store.
        The broker keeps events for a week, 10 000 of each stream and 256 MiB in all. An event may come twice, with the
        same `id`. While broker or pipeline are away, the iterator waits.

        Raises:
            NotFoundError: no such group or stream, or no pipeline runs; only at the beginning.
            BadInputError: both `since` and `after`, or a negative one.
        """
        return events(self.bus, group, stream, since, after, follow)

    def history(
        self,
        *,
        group: str | None = None,
        device: str | None = None,
        kinds: Collection[str] = (),
        since: float | None = None,
        after: int | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[HistoryEntry, None]:
        """What happened in the system and why, in order: ``async for entry in hams.history(since=3600)``.

        Only what concerns `group` or `device` and is of one of `kinds`, where these are given. `since`, `after` and
        `follow` are as of :meth:`events`, and `sequence` is for the next `after`. The broker keeps 30 days, 10 000
        entries of scheduler and optimizer each and 16 MiB in all. A scheduler answers; any will do.

        Raises:
            NotFoundError: no scheduler runs; only at the beginning.
            BadInputError: both `since` and `after`, or a negative one.
        """
        return history(self.bus, group, device, kinds, since, after, follow)

    async def infer(self, group: str, image: Image, *, deadline: float = 30.0, traceparent: str = "") -> Result:
        """Put one image through a deployed group and return the joined result.

        `traceparent` (W3C) names a span of the application, of which the frame's becomes a child.

        Raises:
            NotFoundError: no such group is deployed, or no pipeline runs.
            BadInputError, SourceError: `image` is no image, or cannot be read or decoded.
            DeadlineError: no result within `deadline` seconds.
            RefusedError: too many are under way, or a node failed on it.
        """
        data, shape = _payload(image)
        request = InferRequest(image=data, shape=shape, deadline_s=deadline, traceparent=traceparent)
        answer = codec.decode(InferAnswer, await self._ask(subjects.infer(group), codec.encode(request), deadline))
        if answer.error is not None or answer.result is None:
            raise from_wire(answer.error.model_dump() if answer.error else {})
        return Result(cast(FrameResult, answer.result))

    async def groups(self, *, deadline: float = 8.0) -> tuple[GroupSummary, ...]:
        """Return the deployed groups, by name.

        Raises:
            NotFoundError: no pipeline runs.
            DeadlineError: no answer within `deadline` seconds.
        """
        answer = await ask(self.bus, subjects.pipeline_groups(), b"", "pipeline", timeout=deadline)
        return codec.decode(GroupsView, answer).groups

    async def push(
        self,
        group: str,
        stream: str,
        image: Image,
        *,
        deadline: float = 30.0,
        traceparent: str = "",
        frame: int | None = None,
    ) -> Pushed:
        """Give the next frame to a stream whose source is ``push``; return its number once it was taken.

        A lossless stream takes it when there is room in its window, so a loop of pushes runs as fast as the group; a
        live one takes it at once, and drops an older frame that still waits, which `overloaded` reports. The result
        comes with the others: see :meth:`results`. `traceparent`: as of :meth:`infer`. `frame` is the number that the
        frame must get: one that was taken already is not taken again, so a push may be repeated after an error.

        Raises:
            NotFoundError: no such group or stream, or no pipeline runs.
            RefusedError: `frame` is not the next: the text says which is, and so does :meth:`next_frame`.
            BadInputError, SourceError: `image` is no image, or cannot be read or decoded.
            OverloadedError: there was no room within `deadline` seconds, or too many pushes wait already.
        """
        data, shape = _payload(image)
        request = PushRequest(image=data, shape=shape, deadline_s=deadline, traceparent=traceparent, frame=frame)
        answer = codec.decode(
            PushAnswer, await self._ask(subjects.push(group, stream), codec.encode(request), deadline)
        )
        if answer.error is not None or answer.frame is None:
            raise from_wire(answer.error.model_dump() if answer.error else {})
        return Pushed(answer.frame, answer.overloaded)

    async def next_frame(self, group: str, stream: str, *, deadline: float = 8.0) -> int:
        """Return the number of the frame to push next.

        After a restart of the pipeline it is the first frame of a lossless stream whose result was not published.

        Raises:
            NotFoundError: no such group or stream with ``source: push``, or no pipeline runs.
            DeadlineError: no answer within `deadline` seconds.
        """
        for one in await self.groups(deadline=deadline):
            if one.name == group and stream in one.next_frames:
                return one.next_frames[stream]
        raise NotFoundError(f"group {group} with a stream {stream} with source: push is not deployed")

    async def _ask(self, subject: str, data: bytes, deadline: float) -> bytes:
        if len(data) > MAX_BYTES:
            raise BadInputError(f"an image of {len(data) >> 20} MiB: {MAX_BYTES >> 20} are the most", "send it as JPEG")
        message = await chunks.request(self.bus, subject, data, timeout=deadline + 2.0)
        return message.data


@asynccontextmanager
async def connect(url: str | None = None, *, credentials: Path | str | None = None) -> AsyncIterator[Hams]:
    """Connect to the broker at `url`; default: what ``HAMS_NATS_URL`` names, else the `hams-ctl up` of this machine.

    `credentials` is the file ``app.creds`` that `hams-ctl init` made, where the broker asks for it; default: the one
    that ``HAMS_CREDENTIALS`` names, if any.

    Raises:
        CredentialsError: the broker rejects the credentials, or they do not trust the broker.
        BrokerError: no broker answers.
    """
    identity = load(Path(credentials)) if credentials is not None else None
    async with NatsBus(url or _nearest(), name="hams-client", credentials=identity) as bus:
        yield Hams(bus)


def _nearest() -> str:
    found = running()
    return os.environ.get("HAMS_NATS_URL") or (found.url if found else DEFAULT_NATS)
