"""The device's threads: images are made ready, computed and finished side by side, so that the device never waits.

    one lane:       submit → fair queue → [prepare] → ready → [lane] → done → [finish] → deliver
    several lanes:  submit → fair queue → [lane: prepare, compute, finish] → deliver
    slow nodes:     submit → [beside: prepare, compute, finish, rest] → deliver

A device with several lanes (a CPU of several cores) computes as many batches at a time, each on its part. A batch that
is alone uses all of it. With one lane, two more threads work on the batches before and behind it: one is made ready
ahead of the device, so as not to go past the fair queue, and on top of it what may overtake it. An idle device does
all three steps itself: handing over would only cost time.

All steps that take long (resize, inference, warp) release Python's lock. The queue is bounded; when it is full new work
is refused, and the pipeline sends it again later. Benchmarks run in a lane too, one step at a time between batches,
while all other lanes wait, so that they neither disturb nor are disturbed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from hams_agents.runtime.beside import Beside
from hams_agents.runtime.failure_watch import FailureWatch
from hams_agents.runtime.fair_queue import FairQueue, Turn
from hams_agents.runtime.progress import FIRST_S, Load, Pace, Progress, first_limit_s
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Finished, Piece, Visit, alike, failures, finish, infer, prepare
from hams_shared.errors import HamsError, InternalError, RefusedError, as_hams_error
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.wire.frames import Work
from hams_shared.wire.messages.agents import NodeLoad

log = logging.getLogger("hams.agent")

T = TypeVar("T")

QUEUE_LIMIT = 512
"""Most pieces of work waiting on a device."""
DONE_LIMIT = 2
"""Batches computed and not finished: then the device waits."""

Steps = Iterator[T | None]
"""A long job cut into short steps: yields None after each step and, last, its result."""


@dataclass
class _Job(Generic[T]):
    steps: Iterator[T | None]
    done: Future[T]


@dataclass
class Executor:
    """Owns the device's threads."""

    deliver: Callable[[list[Finished]], None]
    """Called in the threads with what pieces of work gave; may block for back-pressure."""
    pin: Callable[[], None] = lambda: None
    """Called first thing in the threads that compute."""
    lanes: int = 1
    """Batches computed at a time."""
    failures: FailureWatch | None = None
    """Takes what was inferred and what it gave; None: errors have no consequences."""
    ended: Callable[[HamsError], None] = lambda _error: None
    """Called in one of the threads when it ends by an error: nothing is computed any more."""
    clock: Clock = SYSTEM_CLOCK
    busy_s: float = 0.0
    """Time the whole device was busy, s."""
    _queue: FairQueue[Piece] = field(default_factory=FairQueue)
    _ready: list[tuple[Turn[Piece], Batch]] = field(default_factory=list)
    """A stack: each may overtake those below it."""
    _done: deque[Batch] = field(default_factory=deque)
    _jobs: deque[_Job[object]] = field(default_factory=deque)
    _loads: dict[tuple[str, str], Load] = field(default_factory=dict)
    _pace: Pace = field(default_factory=Pace)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False
    _preparing: bool = False
    _idle: bool = False
    """A lane has nothing to do."""
    _computing: int = 0
    """Lanes with a batch."""
    _since_step: int = 0
    """Batches begun since the newest step of a job."""
    _stepping: bool = False
    """A step of a job runs: no lane begins a batch."""
    threads: list[threading.Thread] = field(default_factory=list)
    """Those that compute first, then those that prepare and finish, and the one beside them where there is one."""

    def __post_init__(self) -> None:
        self._beside = Beside(self._run_beside, self.deliver, self._start, self.pin, self.clock)
        around = (Progress(), Progress()) if self.lanes == 1 else ()
        self.progress = (*(Progress() for _ in range(self.lanes)), self._beside.progress, *around)
        """Of each lane, of the thread beside them, of those that prepare and finish; see `runtime.watchdog`."""
        self._to_prepare = threading.Condition(self._lock)
        self._to_compute = threading.Condition(self._lock)
        self._to_finish = threading.Condition(self._lock)

    @property
    def waiting(self) -> int:
        """Pieces of work that wait."""
        return self._queue.size + self._beside.size

    @property
    def behind(self) -> bool:
        """Whether all lanes find work when they are done with what they do."""
        return self._queue.size >= self.lanes and not self._jobs

    def start(self) -> None:
        """Start the threads."""
        loops = [(f"lane {n}", partial(self._compute, self.progress[n])) for n in range(self.lanes)]
        if self.lanes == 1:
            before, behind = self.progress[-2:]
            loops += [("prepare", partial(self._prepare, before)), ("finish", partial(self._finish, behind))]
        for name, loop in loops:
            self._start(name, loop)

    def _start(self, name: str, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._watched, args=(name, loop), name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _watched(self, name: str, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # it is reported, not lost with the thread
            log.exception("the %s thread ended", name)
            self.ended(InternalError(f"the {name} thread ended: {type(error).__name__}: {error}"))

    def submit(self, served: ServedNode, work: Work, visit: Visit) -> bool:
        """Queue one piece of work; False when the queue is full or closing."""
        if served.slow:
            return self._beside.submit(Piece(served, work, time.perf_counter(), visit))
        with self._lock:
            if self._stopping or self._queue.size >= QUEUE_LIMIT:
                return False
            now = self.clock.now()
            piece = Piece(served, work, time.perf_counter(), visit)
            # Assignments of two epochs are never run together: their networks may differ.
            stream = f"{work.id.stream}@{work.id.epoch}"
            self._queue.push((work.id.group, work.node), stream, piece, work.count, served.terms, now)
            (self._to_compute if self._idle or self.lanes > 1 else self._to_prepare).notify()
            return True

    async def run_steps(self, steps: Steps[T]) -> T:
        """Run a long job in a lane, step by step between batches, and return its result."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # from now on only a lane ends it
        with self._lock:
            if self._stopping:
                raise RefusedError("the agent is stopping")
            self._jobs.append(_Job(steps, done))  # type: ignore[arg-type]
            self._to_compute.notify()
        return await asyncio.wrap_future(done)

    def loads(self) -> tuple[NodeLoad, ...]:
        """Return what each node has cost so far."""
        with self._lock:
            return tuple(load.to_wire(*key) for key, load in sorted(self._loads.items()))

    def forget(self, group: str) -> None:
        """Drop the accounts of a group that is no longer served here."""
        with self._lock:
            self._queue.forget(group)
            self._beside.forget(group)
            for key in [key for key in self._loads if key[0] == group]:
                del self._loads[key]
        if self.failures is not None:
            self.failures.forget(group)

    def stop(self, timeout: float) -> bool:
        """Finish what is queued, then end the threads; False when they did not end within `timeout` s."""
        self._beside.stop()
        with self._lock:
            self._stopping = True
            for condition in (self._to_prepare, self._to_compute, self._to_finish):
                condition.notify_all()
        deadline = self.clock.now() + timeout
        for thread in self.threads:
            thread.join(max(0.0, deadline - self.clock.now()))
        return not any(thread.is_alive() for thread in self.threads)

    # ── the prepare thread ────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, progress: Progress) -> None:
        while True:
            with self._lock:
                turn = self._take()
                if turn is None:
                    return
            for batch in alike(turn.items):
                self._prepare_one(batch, progress)
                with self._lock:
                    self._ready.append((turn, batch))
                    self._to_compute.notify()
            with self._lock:
                self._preparing = False
                self._to_compute.notify()

    def _prepare_one(self, batch: Batch, progress: Progress) -> None:
        with progress.job(batch.named("preparation of the input"), FIRST_S):
            prepare(batch)

    def _take(self) -> Turn[Piece] | None:
        """Wait for work that may be made ready; None at the end. The lock is held."""
        while True:
            now = self.clock.now()
            over = self._ready[-1][0] if self._ready else None
            turn = self._queue.pop(now, over)
            if turn is not None:
                self._preparing = True
                return turn
            if self._stopping and not self._queue.size:
                return None
            self.clock.wait(self._to_prepare, self._queue.wait(now, over))

    # ── the lanes ─────────────────────────────────────────────────────────────────────────────────────────────

    def _compute(self, progress: Progress) -> None:
        self.pin()
        while (work := self._next()) is not None:
            match work:
                case Batch():
                    self._run(work, progress, self.clock.now())
                case Turn():
                    for batch in alike(work.items):
                        begun = self.clock.now()
                        self._prepare_one(batch, progress)
                        self._run(batch, progress, begun)
                case _Job():
                    self._step(work, progress)
                    continue
            with self._lock:
                self._computing -= 1
                if self._jobs:
                    self._to_compute.notify_all()

    def _next(self) -> Batch | Turn[Piece] | _Job[object] | None:
        """Wait for what this lane does next; None at the end."""
        with self._lock:
            while True:
                if self._stopping and self._jobs and not self._stepping:
                    self._jobs.popleft().done.set_exception(RefusedError("the agent is stopping"))
                    continue
                job = self._jobs[0] if self._jobs else None
                work = self._take_work() if job is None or self._since_step < self.lanes else None
                if work is not None:
                    self._computing += 1
                    self._since_step += 1
                    return work
                if job is not None and not self._computing and not self._stepping:
                    self._since_step = 0
                    self._stepping = True
                    return job
                if self._stopping and not (job or self._preparing or self._ready or self._queue.size):
                    for condition in (self._to_prepare, self._to_finish, self._to_compute):
                        condition.notify_all()
                    return None
                self._idle = not self._preparing
                own = self.lanes > 1 and not job and not self._stepping  # no thread beside the lanes waits for it
                self.clock.wait(self._to_compute, self._queue.wait(self.clock.now()) if own else None)
                self._idle = False

    def _take_work(self) -> Batch | Turn[Piece] | None:
        """Take a batch that is ready, or work that this lane makes ready itself. The lock is held."""
        if self._stepping or len(self._done) >= DONE_LIMIT:
            return None
        work: Batch | Turn[Piece] | None = None
        if self._ready:
            work = self._ready.pop()[1]
        elif self._queue.size and not self._preparing:
            work = self._queue.pop(self.clock.now())
        if self._queue.size and (work is not None or self.lanes == 1):
            (self._to_prepare if self.lanes == 1 else self._to_compute).notify()
        return work

    def _run(self, batch: Batch, progress: Progress, begun: float) -> None:
        """Compute a batch. One of several lanes also finishes it, and all of its time since `begun` counts."""
        served = batch.pieces[0].served
        key = served.key
        images = sum(piece.work.count for piece in batch.pieces)
        alone = self._computing == 1 and not self._queue.size
        start = self.clock.now()
        with progress.job(batch.named("inference"), self._limit_s(served, images)):
            infer(batch, alone=alone)
        spent = self.clock.now() - start
        failed = batch.failed
        self._keep_pace(served, images, spent, failed)
        if self.failures is not None:
            self.failures.inferred(batch, progress)
        if self.lanes > 1:
            self._finish_one(batch, progress)
            lane_s = self.clock.now() - begun
            busy_s = lane_s if alone else lane_s / self.lanes
            self._account(key, Load(len(batch.pieces), images, busy_s, failed=failed), alone=alone)
            return
        self._account(key, Load(len(batch.pieces), images, spent, failed=failed), alone=False)
        with self._lock:
            more = bool(self._ready or self._preparing or self._queue.size or self._jobs or self._done)
            if more:
                self._done.append(batch)
                self._to_finish.notify()
        if not more:
            self._finish_one(batch, progress)

    def _run_beside(self, batch: Batch, progress: Progress) -> float:
        """Compute a batch of a slow node, in the thread beside the lanes; return how long the network took, s.

        It counts as alone: what it costs says nothing of how networks in lanes slow each other down.
        """
        served = batch.pieces[0].served
        key, images = served.key, sum(piece.work.count for piece in batch.pieces)
        self._prepare_one(batch, progress)
        start = self.clock.now()
        limit_s = max(FIRST_S * max(images, 1), self._limit_s(served, images))
        with progress.job(batch.named("inference"), limit_s):
            infer(batch, alone=False)
        spent = self.clock.now() - start
        self._keep_pace(served, images, spent, batch.failed)
        cost = Load(len(batch.pieces), images, spent / self.lanes, failed=batch.failed)
        if self.failures is not None:
            self.failures.inferred(batch, progress, beside=True)
        self._finish_one(batch, progress)
        with self._lock:
            self._loads.setdefault(key, Load()).add(cost, alone=True)
        return spent

    def _limit_s(self, served: ServedNode, images: int) -> float:
        with self._lock:
            return self._pace.limit_s(served.network_id, images)

    def _keep_pace(self, served: ServedNode, images: int, spent: float, failed: int) -> None:
        """Take how long a network took, s; one that failed says nothing of it."""
        if images and not failed:
            with self._lock:
                self._pace.add(served.network_id, images, spent)

    def _account(self, key: tuple[str, str], cost: Load, *, alone: bool) -> None:
        """Add what a batch cost to the account of its node (group, node), and to the node's place in the queue."""
        with self._lock:
            known = self._loads.setdefault(key, Load())
            # who fails fast is not fast: a failure costs no less than the usual time
            usual = known.busy_s * cost.inferences / known.inferences if cost.failed and known.inferences else 0.0
            self._queue.charge(key, cost.frames, max(cost.busy_s, usual) if cost.inferences else 0.0)
            known.add(cost, alone=alone)
            self.busy_s += cost.busy_s

    def _step(self, job: _Job[object], progress: Progress) -> None:
        result, error = None, None
        try:
            with progress.job("a benchmark", first_limit_s(self.lanes)):  # an inference in each lane
                result = next(job.steps)
        except BaseException as raised:
            error = as_hams_error(raised)
        with self._lock:
            self._stepping = False
            if error is not None or result is not None:
                self._jobs.popleft()
            self._to_compute.notify_all()
        if error is not None:
            job.done.set_exception(error)
        elif result is not None:
            job.done.set_result(result)

    # ── the finish thread ─────────────────────────────────────────────────────────────────────────────────────

    def _finish(self, progress: Progress) -> None:
        lane = self.threads[0]
        while True:
            with self._lock:
                while not self._done:
                    if self._stopping and not lane.is_alive():
                        return
                    self.clock.wait(self._to_finish, 0.2 if self._stopping else None)
                batch = self._done.popleft()
                self._to_compute.notify()
            self._finish_one(batch, progress)

    def _finish_one(self, batch: Batch, progress: Progress) -> None:
        try:
            with progress.job(batch.named("decoding"), FIRST_S):
                finished = finish(batch)
        except Exception as error:
            finished = failures(batch, as_hams_error(error))
        served = batch.pieces[0].served
        wrong = self.failures.finished(served, [one.output for one in finished]) if self.failures is not None else 0
        with self._lock:
            load = self._loads.setdefault(served.key, Load())
            load.add_cpu(batch.cpu_s)
            load.not_finite += wrong
        self.deliver(finished)
