"""The thread in which one source is opened, read and closed."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from hams_services.pipeline.sources.base import Picture, Source
from hams_shared.wire.frames import Pixels

log = logging.getLogger("hams.pipeline")

T = TypeVar("T")

STOP_S = 2.0
"""How long a source may take to be closed; then its thread is left behind."""


_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class Reader:
    """Opens, reads and closes one source in a daemon thread of its own; its calls are made one at a time.

    A read that hangs then delays neither another stream nor the end of the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._source: Source | None = None
        self._error: Exception | None = None
        """Raised by a read after frames that are returned first."""
        self.cpu_s = 0.0
        """CPU time of reading and decoding so far, s; a decoder's own threads, of video above 1080p, are left out."""
        self.timed = False
        """Whether :attr:`Picture.read_s` is set."""
        self._stopped = False
        self._at_end: list[Callable[[], None]] = []
        threading.Thread(target=self._work, name=f"source {name}", daemon=True).start()

    async def open(self, opener: Callable[[], Source]) -> Source:
        """Open a source, closing the one before; return it, of which only constants may be read. Raises
        the errors of `opener`."""

        def job() -> Source:
            self._close()
            self._source = opener()
            return self._source

        return await self._call(job)

    async def read(self, into: Sequence[Pixels | None] = (None,)) -> list[Picture]:
        """Return the next frames, each read into one of `into` if that fits; fewer when the source has ended or
        :attr:`failed`.

        Raises the errors of :meth:`Source.read`, once the frames before them have been returned.
        """
        return await self._call(partial(self._read, into))

    @property
    def failed(self) -> bool:
        """Whether the next read raises the error of the source: it has not ended."""
        return self._error is not None

    async def skip(self, count: int, at: float | None) -> None:
        """Leave out the first frames; see :class:`Source`."""
        await self._call(lambda: self._opened().skip(count, at))

    async def rewind(self) -> None:
        """Start over; see :class:`Source`."""
        await self._call(lambda: self._opened().rewind())

    async def close(self) -> None:
        """Close the source; another may be opened."""
        await self._call(self._close)

    async def stop(self) -> None:
        """Close the source and end the thread; after `STOP_S` the thread is left to end once its call returns."""
        if self._stopped:
            return
        self._stopped = True
        self._jobs.put(None)
        try:
            async with asyncio.timeout(STOP_S):
                await self._ended.wait()
        except TimeoutError:
            log.warning("the source of stream %s hangs: its thread is left behind", self._name)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call `call` in the loop once the thread has ended, and so writes into no memory that it was given."""
        if self._ended.is_set():
            call()
        else:
            self._at_end.append(call)

    def _end(self) -> None:
        self._ended.set()
        calls, self._at_end = self._at_end, []  # they hold memory
        for call in calls:
            call()

    async def _call(self, job: Callable[[], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return await future

    # ── in the thread ─────────────────────────────────────────────────────────────────────────────────────────

    def _opened(self) -> Source:
        assert self._source is not None, "read before open"
        return self._source

    def _read(self, into: Sequence[Pixels | None]) -> list[Picture]:
        error, self._error = self._error, None
        if error is not None:
            raise error
        pictures: list[Picture] = []
        source, start = self._opened(), time.thread_time()
        try:
            for pixels in into:
                picture = _timed(source, pixels) if self.timed else source.read(pixels)
                if picture is None:
                    break
                pictures.append(picture)
        except Exception as error:
            if not pictures:
                raise
            self._error = error
        finally:
            self.cpu_s += time.thread_time() - start
        return pictures

    def _close(self) -> None:
        self._error = None
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            if future.cancelled():
                continue
            try:
                result = call()
            except Exception as error:
                self._report(_fail, future, error)
            else:
                self._report(_succeed, future, result)
                del result  # frames are given back while we wait for the next job
        try:
            self._close()
        except Exception:
            log.exception("the source of stream %s could not be closed", self._name)
        self._report(self._end)

    def _report(self, what: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *args)


def _timed(source: Source, into: Pixels | None) -> Picture | None:
    """Read a frame; see :attr:`Picture.read_s`."""
    clock = time.thread_time if source.endless else time.perf_counter
    began = clock()
    picture = source.read(into)
    return None if picture is None else replace(picture, read_s=clock() - began)


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
