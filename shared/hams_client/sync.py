"""The client for scripts: the same methods as :class:`hams_client.Hams`, blocking.

    with hams_client.sync.connect() as hams:
        print(hams.infer("face", "photo.jpg").objects)
        for result in hams.results("face"):
            ...

The connection lives in an event loop of its own, in a thread that ends with the block.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from hams_client.client import Hams, Image, Pushed
from hams_client.client import connect as connect_async
from hams_client.events import Event
from hams_client.feed import Feed
from hams_client.history import HistoryEntry
from hams_client.result import Result
from hams_shared.errors import BrokerError, HamsError, NoResultError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.pipeline import GroupSummary

T = TypeVar("T")


class SyncHams:
    """A connection to a HAMS system; made by :func:`connect`. May be used from several threads."""

    def __init__(self, hams: Hams, loop: asyncio.AbstractEventLoop) -> None:
        self._hams = hams
        self._loop = loop
        self._closing: set[asyncio.Task[None]] = set()
        """Iterators that the loop's own thread has collected, until they have ended."""
        self._closed = False
        self._starting = threading.RLock()
        """Held while a job begins: none does any more once the block has ended."""

    def _end(self) -> None:
        """End what other threads wait for: they get a BrokerError, also for all they ask for from now on."""
        with self._starting:
            self._closed = True

        async def end() -> None:
            await ended(asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())})

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()

    def infer(self, group: str, image: Image, *, deadline: float = 30.0, traceparent: str = "") -> Result:
        """As :meth:`hams_client.Hams.infer`."""
        return self._run(self._hams.infer(group, image, deadline=deadline, traceparent=traceparent))

    def groups(self, *, deadline: float = 8.0) -> tuple[GroupSummary, ...]:
        """As :meth:`hams_client.Hams.groups`."""
        return self._run(self._hams.groups(deadline=deadline))

    def push(
        self,
        group: str,
        stream: str,
        image: Image,
        *,
        deadline: float = 30.0,
        traceparent: str = "",
        frame: int | None = None,
    ) -> Pushed:
        """As :meth:`hams_client.Hams.push`."""
        push = self._hams.push(group, stream, image, deadline=deadline, traceparent=traceparent, frame=frame)
        return self._run(push)

    def next_frame(self, group: str, stream: str, *, deadline: float = 8.0) -> int:
        """As :meth:`hams_client.Hams.next_frame`."""
        return self._run(self._hams.next_frame(group, stream, deadline=deadline))

    def kept_results(
        self,
        group: str,
        stream: str | None = None,
        *,
        since: float | None = None,
        after: int | None = None,
        durable: str = "",
        follow: bool = True,
        timeout: float | None = None,
    ) -> Iterator[Result]:
        """As :meth:`hams_client.Hams.kept_results`. Raises NoResultError, as :meth:`results`."""
        found = self._hams.kept_results(group, stream, since=since, after=after, durable=durable, follow=follow)
        return self._items(found, timeout, f"result of {group}")

    def results(
        self, group: str, stream: str = "*", *, limit: int = 256, timeout: float | None = None
    ) -> Iterator[Result]:
        """As :meth:`hams_client.Hams.results`.

        Raises:
            NoResultError: no result came for `timeout` s; it is a TimeoutError, too.
        """
        return self._iterate(self._hams.results(group, stream, limit=limit), timeout, f"result of {group}")

    def tap(
        self, group: str, node: str, stream: str = "*", *, limit: int = 256, timeout: float | None = None
    ) -> Iterator[Output]:
        """As :meth:`hams_client.Hams.tap`. Raises as :meth:`results`."""
        return self._iterate(self._hams.tap(group, node, stream, limit=limit), timeout, f"output of {group}/{node}")

    def events(
        self,
        group: str,
        stream: str | None = None,
        *,
        since: float | None = None,
        after: int | None = None,
        follow: bool = True,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """As :meth:`hams_client.Hams.events`. Raises NoResultError, as :meth:`results`."""
        found = self._hams.events(group, stream, since=since, after=after, follow=follow)
        return self._items(found, timeout, f"event of {group}")

    def history(
        self,
        *,
        group: str | None = None,
        device: str | None = None,
        kinds: Collection[str] = (),
        since: float | None = None,
        after: int | None = None,
        follow: bool = True,
        timeout: float | None = None,
    ) -> Iterator[HistoryEntry]:
        """As :meth:`hams_client.Hams.history`. Raises NoResultError, as :meth:`results`."""
        found = self._hams.history(group=group, device=device, kinds=kinds, since=since, after=after, follow=follow)
        return self._items(found, timeout, "entry of the history")

    def _run(self, job: Coroutine[Any, Any, T]) -> T:
        with self._starting:
            if self._closed:
                job.close()
                raise BrokerError("the connection is closed", "its block has ended")
            future = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if not self._closed:
                raise
            raise BrokerError("the connection is closed", "its block has ended meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, feed: Feed[T], timeout: float | None, what: str) -> Iterator[T]:
        """Listen from now on, not only from the first item asked for."""
        self._run(feed.__aenter__())
        return self._items(feed, timeout, what)

    def _items(self, feed: Feed[T] | AsyncGenerator[T, None], timeout: float | None, what: str) -> Iterator[T]:
        async def following() -> T:
            try:
                async with asyncio.timeout(timeout):
                    return await anext(feed)
            except TimeoutError:
                raise NoResultError(
                    f"no {what} came for {timeout:g} s",
                    "see `hams-ctl status`: does the group serve, does its stream play?",
                ) from None

        try:
            while True:
                yield self._run(following())
        except StopAsyncIteration:
            return
        finally:
            if self._in_loop():  # the garbage collector runs in any thread; this one cannot wait for itself
                closing = self._loop.create_task(_close(feed))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            elif not self._closed and not self._loop.is_closed():
                self._run(feed.aclose())

    def _in_loop(self) -> bool:
        """Whether this is the thread of the connection's loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:  # no loop runs in this thread
            return False


async def _close(feed: Feed[T] | AsyncGenerator[T, None]) -> None:
    """End a feed that nobody waits for: an error (the connection is lost) has no receiver."""
    with suppress(HamsError):
        await feed.aclose()


@contextmanager
def connect(url: str | None = None, *, credentials: Path | str | None = None) -> Iterator[SyncHams]:
    """As :func:`hams_client.connect`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hams-client", daemon=True)
    thread.start()

    def run(job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, loop).result()

    try:
        connection = connect_async(url, credentials=credentials)
        hams = SyncHams(run(connection.__aenter__()), loop)
        try:
            yield hams
        finally:
            try:
                run(connection.__aexit__(None, None, None))
            finally:
                hams._end()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
