"""What leaves the device: one answer per frame about all nodes served here, and crops for other devices.

An answer waits for further ones while the device has enough to do without it: several in one message cost broker and
pipeline little more than one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hams_agents.runtime.serving import Finished, Visit, failure
from hams_shared.bus.mailbox import Outgoing
from hams_shared.errors import HamsError
from hams_shared.wire import subjects
from hams_shared.wire.frames import FrameId, Output, Work, pack_outputs, pack_works

HELD = 4
"""Most frames whose answers wait for each other."""
HELD_S = 0.01
"""How long an answer waits while others are finished, s."""
QUICK_S = 0.005
"""Pieces of work that follow each other faster than this are worth waiting for, s."""


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
            with self._lock:
                one.visit.left += len(here)
            closed += [refused for work in here if (refused := self._queue(work, one.visit)) is not None]
            closed.append((one.visit, one.output))
            for device, works in away.items():
                messages.append(Outgoing(subjects.work(device), pack_works(works), works[0].peers.get(device, "")))
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
            Outgoing(subjects.answer(group, stream), pack_outputs(outputs), mailbox)
            for (group, stream, mailbox), outputs in held.items()
        ]
