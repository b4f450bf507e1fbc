"""Every test here runs on a clock of its own, which jumps over waits; see support/world."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from hams_services.pipeline.sources.reader import Reader
from support.world.clock import LOOK_S, WorldLoop
from support.world.system import System


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"world": WorldLoop}


READ_S = 0.5
"""Time spent looking after which a read that has not returned hangs: the clock goes on meanwhile, s."""


@pytest.fixture(autouse=True)
def _reads_are_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock waits for the threads that read sources, as for those of devices: to read takes none of its time.

    So beside a stream whose every next frame comes in real time, within `READ_S`, the clock stands still.
    """
    call, stop = Reader._call, Reader.stop
    threads: WeakKeyDictionary[Reader, int] = WeakKeyDictionary()

    async def counted(self: Reader, job: Callable[[], Any]) -> Any:
        thread: list[int] = []

        def work() -> Any:
            thread.append(threading.get_ident())
            threads[self] = thread[0]
            return job()

        with _counted(thread):
            return await call(self, work)

    async def stopped(self: Reader) -> None:
        """Also the read under way, if what waited for it was cancelled; and the source's end."""
        thread = threads.get(self)
        with _counted([] if thread is None else [thread]):
            await stop(self)

    monkeypatch.setattr(Reader, "_call", counted)
    monkeypatch.setattr(Reader, "stop", stopped)


@contextmanager
def _counted(thread: list[int]) -> Iterator[None]:
    """Let the clock wait: for at most `READ_S`, and not while `thread`, if it is known already, sleeps by the clock."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorldLoop)
    looked, left = time.monotonic(), READ_S

    def busy(sleeps: Callable[[int], bool]) -> bool:
        nonlocal looked, left
        now = time.monotonic()
        left -= min(now - looked, 2 * LOOK_S)  # a process that the host did not run saw nobody hang
        looked = now
        return left > 0 and not (thread and sleeps(thread[0]))

    loop.clock.reads.append(busy)
    try:
        yield
    finally:
        loop.clock.reads.remove(busy)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[System]:
    """A broker and a client; the test starts the parts."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorldLoop)
    try:
        async with System(tmp_path, loop.clock) as system:
            yield system
    finally:
        loop.clock.end()
