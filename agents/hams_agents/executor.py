"""The device's one thread: everything that touches the device's networks runs here, one job after another.

Nodes take turns (round robin over (group, node)), so that a node with much waiting work does not starve another; groups
of a higher priority go first, so that under overload the lower ones give way.
The queue is bounded; when it is full new work is refused, and the pipeline sends it again later. Benchmarks run in the
same thread, one inference at a time between pieces of work, so that they neither disturb nor are disturbed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hams_agents.serving import Outgoing, ServedNode, run
from hams_shared.errors import RefusedError, as_hams_error
from hams_shared.frames import Work
from hams_shared.messages import NodeLoad

T = TypeVar("T")

QUEUE_LIMIT = 512
"""Most pieces of work waiting on a device."""

Steps = Iterator[T | None]
"""A long job cut into short steps: yields None after each step and, last, its result."""


@dataclass
class _Job(Generic[T]):
    steps: Iterator[T | None]
    done: Future[T]


@dataclass
class _Load:
    frames: int = 0
    inferences: int = 0
    busy_s: float = 0.0


@dataclass
class Executor:
    """Owns the device thread. `deliver` is awaited on `loop` with what each piece of work wants published."""

    loop: asyncio.AbstractEventLoop
    deliver: Callable[[list[Outgoing]], None]
    """Called in the device thread with what to publish; may block for back-pressure."""
    waiting: int = 0
    busy_s: float = 0.0
    _queues: OrderedDict[tuple[str, str], deque[tuple[ServedNode, Work, float]]] = field(default_factory=OrderedDict)
    _jobs: deque[_Job[object]] = field(default_factory=deque)
    _loads: dict[tuple[str, str], _Load] = field(default_factory=dict)
    _wake: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="device", daemon=True)
        self._thread.start()

    def submit(self, served: ServedNode, work: Work) -> bool:
        """Queue one piece of work; False when the queue is full or closing."""
        with self._wake:
            if self._stopping or self.waiting >= QUEUE_LIMIT:
                return False
            key = (work.id.group, work.node)
            self._queues.setdefault(key, deque()).append((served, work, time.perf_counter()))
            self.waiting += 1
            self._wake.notify()
            return True

    async def run_steps(self, steps: Steps[T]) -> T:
        """Run a long job in the device thread, step by step between pieces of work, and return its result."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # from now on only the device thread ends it
        with self._wake:
            if self._stopping:
                raise RefusedError("the agent is stopping")
            self._jobs.append(_Job(steps, done))  # type: ignore[arg-type]
            self._wake.notify()
        return await asyncio.wrap_future(done)

    def loads(self) -> tuple[NodeLoad, ...]:
        """What each node cost so far."""
        with self._wake:
            return tuple(
                NodeLoad(group=g, node=n, frames=x.frames, inferences=x.inferences, busy_s=round(x.busy_s, 6))
                for (g, n), x in sorted(self._loads.items())
            )

    def stop(self, timeout: float) -> bool:
        """Finish what is queued, then end the thread; False when it did not end within `timeout` s."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _next(self) -> tuple[ServedNode, Work, float] | None:
        """Take the oldest work of the node whose turn it is. The lock is held."""
        if not self._queues:
            return None
        key = max(self._queues, key=self._priority)  # of equals the first, which has waited longest
        queue = self._queues[key]
        item = queue.popleft()
        if queue:
            self._queues.move_to_end(key)
        else:
            del self._queues[key]
        self.waiting -= 1
        return item

    def _priority(self, key: tuple[str, str]) -> int:
        return self._queues[key][0][0].plan.group.spec.priority

    def _loop(self) -> None:
        while True:
            with self._wake:
                job = self._jobs[0] if self._jobs else None
                if job is not None and self._stopping:
                    self._jobs.popleft()
                    job.done.set_exception(RefusedError("the agent is stopping"))
                    continue
                item = self._next()
                if item is None and job is None:
                    if self._stopping:
                        return
                    self._wake.wait()
                    continue
            if item is not None:
                self._work(*item)
            if job is not None:
                self._step(job)

    def _work(self, served: ServedNode, work: Work, since: float) -> None:
        start = time.perf_counter()
        outgoing = run(served, work, round((start - since) * 1e3, 3))
        spent = time.perf_counter() - start
        with self._wake:
            load = self._loads.setdefault((work.id.group, work.node), _Load())
            load.frames += 1
            load.inferences += len(work.images)
            load.busy_s += spent
            self.busy_s += spent
        self.deliver(outgoing)

    def _step(self, job: _Job[object]) -> None:
        try:
            result = next(job.steps)
        except BaseException as error:
            self._jobs.popleft()
            job.done.set_exception(as_hams_error(error))
            return
        if result is not None:
            self._jobs.popleft()
            job.done.set_result(result)
