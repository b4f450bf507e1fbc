"""The client against a bus of either kind: feeds, and requests larger than one message."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hams_client import Hams, sync
from hams_client.requested import repeat
from hams_client.sync import SyncHams
from hams_shared.bus import chunks
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Message
from hams_shared.errors import BrokerError, DeadlineError
from hams_shared.wire import codec, subjects
from support.nats_server import NatsServer
from support.wait import until


def result(frame: int) -> bytes:
    return codec.pack({"stream": "s", "frame": frame, "objects": []})


async def test_a_feed_listens_from_the_beginning_of_its_block(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        async with Hams(b).results(name, limit=4) as feed:
            for frame in range(3):
                await a.publish(subjects.result(name, "s"), result(frame))
            await a.publish(subjects.result(name, "s"), b"no result")
            async with asyncio.timeout(60):
                assert [(await anext(feed)).frame for _ in range(3)] == [0, 1, 2]
            for frame in range(3, 9):
                await a.publish(subjects.result(name, "s"), result(frame))
            await until(lambda: feed.lost == 2)
            async for one in feed:
                assert one.frame == 5  # 3 and 4 gave way
                break
            async with asyncio.timeout(60):
                assert (await anext(feed)).frame == 6  # the loop's end did not end the block
        await a.publish(subjects.result(name, "s"), result(9))
        assert feed.lost == 2


async def test_a_feed_without_a_block_ends_with_its_loop(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        feed = Hams(b).results(name)

        async def first() -> int:
            loop = aiter(feed)
            try:
                return (await anext(loop)).frame
            finally:
                await loop.aclose()

        waiting = asyncio.create_task(first())
        await until(lambda: feed._subscription is not None)
        await a.publish(subjects.result(name, "s"), result(7))
        async with asyncio.timeout(60):
            assert await waiting == 7
        assert feed._subscription is None


async def test_a_request_larger_than_a_message_is_answered(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        assembler = chunks.Assembler()

        async def digest(message: Message) -> None:
            data = assembler.take(message.data, time.monotonic())
            if data is not None:
                await message.respond(hashlib.sha256(data).digest())

        await b.subscribe(name, digest)
        await b.flush()
        for size in (10, a.max_payload - chunks.HEADROOM, a.max_payload - chunks.HEADROOM + 1, 3 * a.max_payload):
            data = b"\x01" * size
            answer = await chunks.request(a, name, data, timeout=60)
            assert answer.data == hashlib.sha256(data).digest(), size


class Unflushed(InMemoryBus):
    """A bus whose broker does not answer."""

    async def flush(self, timeout: float = 5.0) -> None:
        raise DeadlineError("no answer")


async def test_what_cannot_begin_leaves_no_subscription(name: str) -> None:
    async with Unflushed() as bus:
        hams = Hams(bus)
        for begun in (aiter(hams.results(name)), aiter(hams.tap(name, "det")), hams.jpegs(name)):
            with pytest.raises(DeadlineError):
                await anext(begun)
        assert not bus.server.subscriptions


@pytest.mark.parametrize("what", ["results", "tap", "traces", "jpegs", "anext"])
async def test_a_reader_notices_that_the_connection_has_ended(connect: Any, name: str, what: str) -> None:
    bus = connect()
    async with bus:
        hams = Hams(bus)
        begin: dict[str, Callable[[], Any]] = {
            "results": lambda: aiter(hams.results(name)),
            "tap": lambda: aiter(hams.tap(name, "det")),
            "traces": lambda: aiter(hams.traces(name)),
            "jpegs": lambda: hams.jpegs(name),
            "anext": lambda: hams.results(name),
        }
        feed = begin[what]()
        before = len(bus.wakers._events)
        reading = asyncio.create_task(anext(feed))
        await until(lambda: len(bus.wakers._events) > before)  # it waits
    async with asyncio.timeout(60):
        with pytest.raises(BrokerError):
            await reading
        await feed.aclose()


async def test_what_has_come_is_read_before_the_connections_end(name: str) -> None:
    server = MemoryServer()
    async with InMemoryBus(server) as a:
        async with InMemoryBus(server) as b:
            feed = await Hams(b).results(name).__aenter__()
            await a.publish(subjects.result(name, "s"), result(0))
            await until(lambda: feed._arrived._items)
        assert (await anext(feed)).frame == 0
        with pytest.raises(BrokerError):
            await anext(feed)


async def test_a_request_is_repeated_after_every_error_and_until_the_connection_ends(name: str) -> None:
    class Slow(InMemoryBus):
        tries = 0

        async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
            self.tries += 1
            raise DeadlineError("the broker takes nothing")

    async with Slow() as bus:
        asking = asyncio.create_task(repeat(bus, name, b"", every=0.001))
        await until(lambda: bus.tries >= 3 or asking.done())
        assert not asking.done()
    async with asyncio.timeout(60):
        await asking


def test_the_end_of_a_blocking_connection_ends_what_other_threads_wait_for(nats_server: NatsServer) -> None:
    waits, ended = threading.Event(), threading.Event()

    async def forever() -> None:
        waits.set()
        await asyncio.Event().wait()

    def other(hams: SyncHams) -> None:
        with pytest.raises(BrokerError):
            hams._run(forever())
        ended.set()

    with sync.connect(nats_server.url) as hams:
        threading.Thread(target=other, args=(hams,), daemon=True).start()
        assert waits.wait(60)
    assert ended.wait(60)
