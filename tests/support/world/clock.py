"""Time that stands still while somebody works, and jumps to the next deadline when everybody waits.

:class:`WorldLoop` is an event loop on a :class:`WorldClock`. Before it would wait for a timer, it looks whether a
thread works: the agents' device threads, jobs of `run_in_executor`, and in tests/world reads of sources. If none does,
it sets the clock to the earliest timer, of a task or a thread, and goes on at once. So an hour passes in a second, and
a slow machine changes nothing: a thread that was not run yet has not used any of the time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SETTLE_S = 0.0003
"""Real time that threads get to take what they were given, before the clock jumps, s."""
LOOK_S = 0.002
"""Real time between two looks at threads that work, s."""
STUCK_S = 0.1
"""Time spent looking after which threads that wait for one another count as waiting, s."""


@dataclass(order=True)
class _Sleeper:
    due: float
    number: int
    condition: threading.Condition = field(compare=False)
    thread: int = field(compare=False)
    awake: bool = field(default=False, compare=False)


class WorldClock:
    """The clock of one world; see :class:`hams_shared.runtime.clock.Clock`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._lock = threading.Lock()
        self._sleepers: list[_Sleeper] = []
        self._asleep: dict[int, _Sleeper] = {}
        self._numbers = itertools.count()
        self.ended = False
        self.busy: list[Callable[[Callable[[int], bool]], bool]] = []
        """Each says whether its threads work, given who sleeps."""
        self.reads: list[Callable[[Callable[[int], bool]], bool]] = []
        """The same of threads that wait for no other thread: they are never stuck, and each says when it hangs."""

    def now(self) -> float:
        """Return the time, s."""
        return self._now

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait in a thread; see :class:`hams_shared.runtime.clock.Clock`."""
        thread = threading.get_ident()
        due = math.inf if timeout is None else self._now + timeout
        with self._lock:
            sleeper = self._asleep[thread] = _Sleeper(due, next(self._numbers), condition, thread)
            if timeout is not None:
                heapq.heappush(self._sleepers, sleeper)
        condition.wait()
        self._wake(sleeper)

    def sleep(self, seconds: float) -> None:
        """Sleep in a thread."""
        until = self._now + seconds
        condition = threading.Condition()
        with condition:
            while (left := until - self._now) > 0 and not self.ended:
                self.wait(condition, left)

    def end(self) -> None:
        """Let every thread go on, and none sleep any more."""
        self.ended = True
        with self._lock:
            sleepers = list(self._sleepers)
        for sleeper in sleepers:
            with sleeper.condition:
                sleeper.condition.notify_all()

    def _wake(self, sleeper: _Sleeper) -> None:
        with self._lock:
            sleeper.awake = True
            if self._asleep.get(sleeper.thread) is sleeper:
                del self._asleep[sleeper.thread]

    def sleeps(self, thread: int) -> bool:
        """Whether a thread waits for the clock, or for another to notify it; one that was notified does not."""
        sleeper = self._asleep.get(thread)
        return sleeper is not None and bool(sleeper.condition._waiters)  # type: ignore[attr-defined]

    def working(self) -> bool:
        """Whether a thread works."""
        return any(busy(self.sleeps) for busy in self.busy)

    def reading(self) -> bool:
        """Whether a thread works that is never stuck."""
        return any(busy(self.sleeps) for busy in self.reads)

    def next_due(self) -> float | None:
        """When the next thread is to be woken."""
        with self._lock:
            while self._sleepers and self._sleepers[0].awake:
                heapq.heappop(self._sleepers)
            return self._sleepers[0].due if self._sleepers else None

    def advance(self, to: float) -> bool:
        """Set the clock, and wake the threads whose time has come; return whether there were any."""
        self._now = max(self._now, to)
        woken = False
        while (due := self.next_due()) is not None and due <= self._now:
            with self._lock:
                sleeper = heapq.heappop(self._sleepers)
            self._wake(sleeper)
            with sleeper.condition:
                sleeper.condition.notify_all()
            woken = True
        return woken


class _Selector(selectors.DefaultSelector):
    """Waits for the world's time instead of the host's."""

    clock: WorldClock
    _unsettled = False
    """Whether a thread worked or was woken since the clock was set last."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        until = None if timeout is None else self.clock.now() + timeout
        stuck = 0.0
        while True:
            reading = self.clock.reading()
            if reading or (self.clock.working() and stuck < STUCK_S):
                self._unsettled = True
                if events := super().select(LOOK_S):
                    return events
                # Not the time that has passed: a process that the host did not run saw nobody wait.
                stuck += LOOK_S if not reading and self.clock.next_due() is not None else 0.0
                continue
            if self._unsettled:
                self._unsettled = False
                time.sleep(SETTLE_S)
                continue
            if events := super().select(0):  # what a thread sent before it went to sleep
                return events
            due = self.clock.next_due()
            if until is not None and (due is None or until <= due):
                self._unsettled = self.clock.advance(until)
                return []
            if due is None:  # nobody waits for time: something outside comes, or the test's deadline
                return super().select(LOOK_S)
            self._unsettled = self.clock.advance(due)
            stuck = 0.0


class WorldLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        selector = _Selector()
        self.clock = selector.clock = WorldClock()
        super().__init__(selector)

    def time(self) -> float:
        """Return the world's time, s."""
        return self.clock.now()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Run in a thread, which counts as work until it has ended or sleeps by the clock."""
        thread: list[int] = []

        def job() -> Any:
            thread.append(threading.get_ident())
            return func(*args)

        def busy(sleeps: Callable[[int], bool]) -> bool:
            return not thread or not sleeps(thread[0])

        def ended(_: object) -> None:
            self.clock.busy.remove(busy)

        future = super().run_in_executor(executor, job)
        self.clock.busy.append(busy)
        future.add_done_callback(ended)
        return future
