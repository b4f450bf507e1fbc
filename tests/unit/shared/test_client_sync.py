"""The blocking client: what the garbage collector may do in the thread of its event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from hams_client import Hams
from hams_client.sync import SyncHams
from hams_shared.errors import BrokerError, HamsError


@pytest.mark.parametrize("error", [None, BrokerError("the connection is lost")])
def test_an_iterator_may_be_collected_in_the_thread_of_the_loop(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, error: HamsError | None
) -> None:
    """It lies in a circle of references, and an allocation there starts the collector."""
    ended, collected = threading.Event(), threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            ended.set()
            if error is not None:
                raise error

    class Reader:
        def __init__(self, items: Iterator[int]) -> None:
            self.items, self.own = items, self

    def collect() -> None:
        gc.collect()
        collected.set()

    gc.collect()
    caplog.clear()  # of what other tests left
    hams = SyncHams(cast(Hams, None), loop)
    gc.disable()  # elsewhere
    try:
        reader: Any = Reader(hams._items(numbers(), None, "number"))
        assert next(reader.items) == 1
        del reader
        loop.call_soon_threadsafe(collect)
        assert collected.wait(30), "the loop waits for itself"
    finally:
        gc.enable()
    assert ended.wait(30)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(30)
    assert not hams._closing
    gc.collect()
    assert not [line for line in caplog.messages if "never retrieved" in line]


def test_an_iterator_that_is_left_ends_what_it_reads(loop: asyncio.AbstractEventLoop) -> None:
    ended = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            ended.set()

    items: Any = SyncHams(cast(Hams, None), loop)._items(numbers(), None, "number")
    assert next(items) == 1
    items.close()
    assert ended.is_set()


def test_the_end_of_the_block_ends_what_other_threads_wait_for(loop: asyncio.AbstractEventLoop) -> None:
    hams, waits = SyncHams(cast(Hams, None), loop), threading.Event()

    async def forever() -> None:
        waits.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(hams._run, forever())
        assert waits.wait(10)
        hams._end()
        with pytest.raises(BrokerError, match="closed"):
            waiting.result(10)
    with pytest.raises(BrokerError, match="closed"):
        hams._run(forever())
