"""The agent's data plane: messages with work come in, answers and the children's crops go out.

    message → :class:`DataPlane` → executor → :class:`DataPlane` → :class:`Outbox` → :class:`Sender` → messages

There is one answer per frame about all nodes served here. An answer waits for further ones while the device has enough
to do without it: several in one message cost broker and pipeline little more than one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from hams_agents.core import AgentState
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.loaded import Loaded
from hams_agents.runtime.serving import Finished, Visit, failure
from hams_shared.bus import chunks
from hams_shared.bus.mailbox import Mailboxes, Outgoing
from hams_shared.bus.protocol import Bus, Message
from hams_shared.errors import HamsError, MessageError, RefusedError, TaskError, as_hams_error
from hams_shared.runtime.clock import Clock
from hams_shared.wire import subjects
from hams_shared.wire.frame_pool import FrameReader
from hams_shared.wire.frames import FrameId, Output, Work, pack_outputs, pack_works, unpack_works

log = logging.getLogger("hams.agent")

HELD = 4
"""Most frames whose answers wait for each other."""
HELD_S = 0.01
"""How long an answer waits while others are finished, s."""
QUICK_S = 0.005
"""Pieces of work that follow each other faster than this are worth waiting for, s."""
QUEUE_LIMIT = 32
"""Messages of finished pieces of work that wait for the broker; then the finishing thread waits."""
REFUSED_LIMIT = 1024
"""Messages that wait for the broker, from which on answers to refused work are lost."""
DEADLINE_S = 10.0
"""How long a finishing thread waits before outputs are lost, s."""


class DataPlane:
    """Queues the work of messages, and sends what it gave. Made on the event loop.

    `executor` makes the executor from what is to be called with the results of its threads.
    """

    def __init__(
        self,
        bus: Bus,
        mailboxes: Mailboxes,
        frames: FrameReader,
        state: AgentState,
        loaded: Loaded,
        executor: Callable[[Callable[[list[Finished]], None]], Executor],
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._frames, self._state, self._loaded, self._clock = frames, state, loaded, clock
        self._assembler, self._bad_messages = chunks.Assembler(), 0
        self.mailbox = mailboxes.open()
        self.executor = executor(self._deliver)
        self._outbox = Outbox(state.device, self._accept)
        self._sender = Sender(bus, mailboxes)
        self._loop, self._timed = asyncio.get_running_loop(), False

    async def listen(self) -> None:
        """Take work from now on: from the mailbox, and by the broker."""
        self.mailbox.listen(lambda data: self._sender.send_soon(self._arrived(data)))
        await self._bus.subscribe(subjects.work(self._state.device), self._on_work, limit=4096)

    async def run(self) -> None:
        """Publish what waits for the broker, until cancelled."""
        await self._sender.run()

    async def flush(self) -> None:
        """Send the answers that still wait for others."""
        await self._sender.publish(self._outbox.flush())

    async def drained(self) -> None:
        """Wait until nothing waits for the broker."""
        await self._sender.drained()

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_work(self, message: Message) -> None:
        await self._sender.publish(self._arrived(message.data))

    def _arrived(self, part: bytes) -> list[Outgoing]:
        """Queue the work of a message, or of its last part; return what to answer now."""
        now = self._clock.now()
        try:
            data = self._assembler.take(part, now)
            if data is None:
                return []
            works = unpack_works(data, self._frames)
        except MessageError as error:
            self._bad_messages += 1
            if self._bad_messages & (self._bad_messages - 1) == 0:  # 1, 2, 4, 8 …: a flood does not fill the log
                log.warning("bad work message (%d so far): %s", self._bad_messages, error)
            return []
        messages = self._outbox.arrive(works, now, busy=self.executor.behind)
        self._release_later()
        return messages

    def _accept(self, work: Work, visit: Visit) -> HamsError | None:
        """Queue `work`; return why it is refused."""
        refusal = self._state.admit(work.id.group, work.id.epoch, work.node)
        if refusal is not None:
            return refusal
        served = self._loaded.nodes.get((work.id.group, work.id.epoch, work.node))
        if served is None:  # dropped since it was admitted: the event loop does so while a lane is here
            return RefusedError(f"{self._state.device} does not serve node {work.node} any more")
        if self.executor.submit(served, work, visit):
            return None
        return RefusedError(f"the queue of {self._state.device} is full")

    # ── out ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _deliver(self, finished: list[Finished]) -> None:
        """Called in the executor's threads: queue crops for nodes of this device, and send the rest.

        Waits while too much is under way.
        """
        messages = self._outbox.finished(finished, self._clock.now(), busy=self.executor.behind)
        self._release_later()
        self._sender.send(messages)

    def _release_later(self) -> None:
        """Have held answers sent after `HELD_S`, though no further work may end until then. For any thread."""
        since = self._outbox.since
        if since is None or self._timed:
            return
        self._timed = True
        wait_s = max(0.0, since + HELD_S - self._clock.now())
        with suppress(RuntimeError):  # the loop is closed: the agent has ended
            self._loop.call_soon_threadsafe(self._loop.call_later, wait_s, self._release, since)

    def _release(self, since: float) -> None:
        """Send the answers that are held since then, on the event loop; wait for those that are held since later."""
        self._timed = False
        if self._outbox.since == since:
            self._sender.send_soon(self._outbox.flush())
        self._release_later()


class Outbox:
    """Keeps the frames that are on the device, and what their nodes gave, until their answers are sent.

    `accept` queues work for a node of this device, and returns why it cannot. It is called in any thread, as all
    methods are.
    """

    def __init__(self, device: str, accept: Callable[[Work, Visit], HamsError | None]) -> None:
        self._device = device
        self._accept = accept
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str, str], list[Output]] = {}
        """By group, stream and mailbox."""
        self._frames = 0
        """Whose answers are held."""
        self._since = 0.0
        """When the oldest of them was."""
        self._last = 0.0
        """When the newest work was finished, s."""
        self._unsendable = 0
        """Outputs whose place an error took."""

    @property
    def since(self) -> float | None:
        """Since when the oldest answer that is held has been held, s; None: none is."""
        return self._since if self._frames else None

    def arrive(self, works: Sequence[Work], now: float, *, busy: bool) -> list[Outgoing]:
        """Queue the work of a message; return what to send now: answers where it is refused. `now` is in s."""
        visits: dict[FrameId, Visit] = {}
        for work in works:
            visits.setdefault(work.id, Visit(answer_to=work.answer_to)).left += 1
        refused = [one for work in works if (one := self._queue(work, visits[work.id])) is not None]
        return self._close(refused, now, busy=busy) if refused else []

    def finished(self, finished: Sequence[Finished], now: float, *, busy: bool) -> list[Outgoing]:
        """Take what pieces of work gave; return what to send now. `busy`: the device has enough other work."""
        messages: list[Outgoing] = []
        closed: list[tuple[Visit, Output]] = []
        for one in finished:
            away: dict[str, list[Work]] = {}
            here: list[Work] = []
            for device, work in one.children:
                (here if device == self._device else away.setdefault(device, [])).append(work)
            try:
                messages += [
                    Outgoing(subjects.work(device), pack_works(works), works[0].peers.get(device, ""))
                    for device, works in away.items()
                ]
            except Exception as error:  # the frame fails, not the device
                closed.append((one.visit, self._failed(one.output, error)))
                continue
            with self._lock:
                one.visit.left += len(here)
            closed += [refused for work in here if (refused := self._queue(work, one.visit)) is not None]
            closed.append((one.visit, one.output))
        return messages + self._close(closed, now, busy=busy)

    def flush(self) -> list[Outgoing]:
        """Return all answers that are held."""
        with self._lock:
            return self._take()

    def _queue(self, work: Work, visit: Visit) -> tuple[Visit, Output] | None:
        error = work.unreadable or self._accept(work, visit)
        return None if error is None else (visit, failure(work, self._device, error))

    def _close(self, closed: Sequence[tuple[Visit, Output]], now: float, *, busy: bool) -> list[Outgoing]:
        with self._lock:
            for visit, output in closed:
                visit.outputs.append(output)
                visit.left -= 1
                if not visit.left:
                    if not self._frames:
                        self._since = now
                    self._frames += 1
                    key = (output.id.group, output.id.stream, visit.answer_to)
                    self._held.setdefault(key, []).extend(visit.outputs)
            quick, self._last = now - self._last < QUICK_S, now
            wait = busy and quick and self._frames < HELD and now - self._since < HELD_S
            return [] if wait else self._take()

    def _take(self) -> list[Outgoing]:
        held, self._held, self._frames = self._held, {}, 0
        return [
            Outgoing(subjects.answer(group, stream), self._packed(outputs), mailbox)
            for (group, stream, mailbox), outputs in held.items()
        ]

    def _packed(self, outputs: Sequence[Output]) -> bytes:
        try:
            return pack_outputs(outputs)
        except Exception:  # that of one frame is no reason to lose the others'
            return pack_outputs([self._sendable(one) for one in outputs])

    def _sendable(self, output: Output) -> Output:
        try:
            output.pack()
        except Exception as error:
            return self._failed(output, error)
        return output

    def _failed(self, output: Output, error: Exception) -> Output:
        """Return the error that takes the place of `output`, which, or whose children's work, cannot be packed."""
        self._unsendable += 1
        if self._unsendable & (self._unsendable - 1) == 0:  # 1, 2, 4, 8 …: each frame may fail
            log.error("what node %s gave cannot be sent (%d so far)", output.node, self._unsendable, exc_info=error)
        reason = TaskError(f"what node {output.node} gave cannot be sent: {as_hams_error(error).text}")
        return Output(output.id, output.node, self._device, [], error=reason.to_wire())


class Sender:
    """Sends into mailboxes at once, from any thread; the rest by the broker, on the event loop, where it is made."""

    def __init__(self, bus: Bus, mailboxes: Mailboxes) -> None:
        self._bus = bus
        self._mailboxes = mailboxes
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[Sequence[Outgoing], bool]] = asyncio.Queue()
        """Messages, and whether they took room: bounded by `_room` and REFUSED_LIMIT."""
        self._room = threading.BoundedSemaphore(QUEUE_LIMIT)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages from a thread beside the event loop; wait while too many are under way."""
        left = self._left(messages)
        if not left:
            return
        if not self._room.acquire(timeout=DEADLINE_S):
            log.warning("outputs lost: the broker took nothing for %g s", DEADLINE_S)
            return
        with suppress(RuntimeError):  # the loop is closed: the agent has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (left, True))

    def send_soon(self, messages: Sequence[Outgoing]) -> None:
        """Send messages from the event loop, without waiting."""
        left = self._left(messages)
        if left and self._queue.qsize() < REFUSED_LIMIT:
            self._queue.put_nowait((left, False))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages from the event loop, and wait until the broker has taken them."""
        for one in self._left(messages):
            try:
                await chunks.publish(self._bus, one.subject, one.data)
            except HamsError as error:  # the pipeline's deadline covers what is lost
                log.warning("cannot publish on %s: %s", one.subject, error)

    async def run(self) -> None:
        """Publish what waits for the broker, until cancelled."""
        while True:
            messages, took_room = await self._queue.get()
            try:
                await self.publish(messages)
            finally:
                self._queue.task_done()
                if took_room:
                    self._room.release()

    async def drained(self) -> None:
        """Wait until nothing waits for the broker."""
        await self._queue.join()

    def _left(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Put messages into mailboxes; return those that have to go by the broker."""
        return [one for one in messages if not self._mailboxes.send(one)]
