"""Results: one made up, and a subscriber in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import hams_client
from hams_client import Result
from hams_shared.errors import BrokerError
from hams_shared.wire.results import check_result
from support.wait import until_sync


def result(
    frame: int, time: float | None, *objects: dict[str, Any], captured: float = 0.0, stream: str = "s0"
) -> Result:
    """Frame `frame` of `stream`, shown at `time` s of it, taken at Unix time `captured`, with `objects` found."""
    data = {
        "version": 1, "group": "g", "stream": stream, "frame": frame, "captured": captured, "media_time_s": time,
        "latency_ms": 1.0, "epoch": 1, "width": 640, "height": 480, "objects": list(objects), "nodes": {},
    }  # fmt: skip
    return Result(check_result(data))


class Subscriber:
    """Collects all results of a group until it is closed."""

    def __init__(self, url: str, group: str, credentials: Path | None = None) -> None:
        self.received: list[Result] = []
        self._url, self._group, self._credentials = url, group, credentials
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._collect())
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()):
            assert isinstance(error, BrokerError)

    async def _collect(self) -> None:
        connection = hams_client.connect(self._url, credentials=self._credentials)
        async with connection as hams, hams.results(self._group, limit=100_000) as results:
            self._ready.set()
            async for result in results:
                self.received.append(result)

    def __enter__(self) -> Subscriber:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    @property
    def frames(self) -> list[int]:
        return [result.frame for result in self.received]

    def until(self, count: int, timeout: float = 60) -> None:
        """Wait for at least `count` results."""
        until_sync(lambda: len(self.received) >= count, timeout, f"{count} results, have {len(self.received)}")
