"""The thread for slow nodes: they take seconds, and run beside the device's lanes, so that no lane waits for them.

A node rests after each piece of work, so that it takes at most its budget of the thread's time: after 2 s with a budget
of 0.25 it rests for 6 s. The thread, and those that its network has, give way to the threads of the lanes (nice).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hams_agents.cpus import give_way
from hams_agents.runtime.progress import Progress
from hams_agents.runtime.serving import Batch, Finished, Piece, failures
from hams_shared.errors import RefusedError
from hams_shared.runtime.clock import Clock

Key = tuple[str, str]
"""Group and node."""
QUEUE_LIMIT = 64
"""Most pieces of work that wait; a stream brings one at a time."""


@dataclass
class Beside:
    """Owns the thread, which the first piece of work starts."""

    run: Callable[[Batch, Progress], float]
    """Called in the thread with each piece of work; returns how long its network took, s."""
    deliver: Callable[[list[Finished]], None]
    """Called with the answers about what is not run any more."""
    start: Callable[[str, Callable[[], None]], None]
    """Starts a thread of that name."""
    pin: Callable[[], None]
    clock: Clock
    progress: Progress = field(default_factory=Progress)
    _started: bool = False
    _waiting: deque[Piece] = field(default_factory=deque)
    _free_at: dict[Key, float] = field(default_factory=dict)
    """When nodes that rest are ready again."""
    _running: Piece | None = None
    _stopping: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def size(self) -> int:
        """Pieces of work that wait."""
        return len(self._waiting)

    def submit(self, piece: Piece) -> bool:
        """Queue a piece of work; False when the queue is full or closing."""
        with self._changed:
            if self._stopping or len(self._waiting) >= QUEUE_LIMIT:
                return False
            self._waiting.append(piece)
            self._changed.notify()
            if not self._started:
                self._started = True
                self.start("beside", self._loop)
            return True

    def forget(self, group: str) -> None:
        """Drop what is known of the nodes of a group that is no longer served here."""
        with self._changed:
            for key in [key for key in self._free_at if key[0] == group]:
                del self._free_at[key]

    def stop(self) -> None:
        """End the thread soon: what is being written ends at the next token, what waits is refused."""
        with self._changed:
            self._stopping = True
            left = [*self._waiting]
            self._waiting.clear()
            running = self._running
            self._changed.notify()
        for piece in left:
            self.deliver(failures(Batch([piece]), RefusedError("the agent is stopping")))
        if running is not None and (end := getattr(running.served.network, "end", None)) is not None:
            end()

    def _loop(self) -> None:
        give_way()
        self.pin()
        while (piece := self._next()) is not None:
            spent = self.run(Batch([piece]), self.progress)
            rest = spent * (1.0 / (piece.served.spec.budget or 1.0) - 1.0)
            with self._changed:
                self._running = None
                self._free_at[piece.served.key] = self.clock.now() + rest

    def _next(self) -> Piece | None:
        """Wait for the oldest work of a node that does not rest; None at the end."""
        with self._changed:
            while not self._stopping:
                now = self.clock.now()
                rests = [self._free_at.get(piece.served.key, now) - now for piece in self._waiting]
                for index, rest in enumerate(rests):
                    if rest <= 0:
                        self._running = self._waiting[index]
                        del self._waiting[index]
                        return self._running
                self.clock.wait(self._changed, min(rests, default=None))
            return None
