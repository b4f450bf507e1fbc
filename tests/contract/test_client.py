"""The client against a bus of either kind: feeds, and requests larger than one message."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

from hams_client import Hams
from hams_shared.bus import chunks
from hams_shared.bus.protocol import Message
from hams_shared.wire import codec, subjects
from support.wait import until


def result(frame: int) -> bytes:
    return codec.pack({"stream": "s", "frame": frame, "objects": []})


async def test_a_feed_listens_from_the_beginning_of_its_block(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        async with Hams(b).results(name, limit=4) as feed:
            for frame in range(3):
                await a.publish(subjects.result(name, "s"), result(frame))
            await a.publish(subjects.result(name, "s"), b"no result")
            async with asyncio.timeout(10):
                assert [(await anext(feed)).frame for _ in range(3)] == [0, 1, 2]
            for frame in range(3, 9):
                await a.publish(subjects.result(name, "s"), result(frame))
            await until(lambda: feed.lost == 2)
            async for one in feed:
                assert one.frame == 5  # 3 and 4 gave way
                break
            async with asyncio.timeout(10):
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
        async with asyncio.timeout(10):
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
            answer = await chunks.request(a, name, data, timeout=10)
            assert answer.data == hashlib.sha256(data).digest(), size
