"""Whatever is put, sent, refused and killed: the queue on the disk has what was put and not sent, in order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hams_services.sinks.event_queue import EventQueue

MOST_EVENTS, MOST_BYTES, LARGEST = 6, 3000, 1500


class QueueMachine(RuleBasedStateMachine):
    """`waiting` is the model: ids and bodies."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hams-queue-"))
        self.files = self.sequence = 0
        self.waiting: list[tuple[str, bytes]] = []
        self.refused = 0
        self.after: int | None = None
        self.queue = self.open()

    def open(self) -> EventQueue:
        return EventQueue(self.folder / f"queue{self.files}", max_events=MOST_EVENTS, max_bytes=MOST_BYTES)

    @precondition(lambda self: not self.queue.full)
    @rule(body=st.integers(0, LARGEST), step=st.integers(-3, 5))
    def put(self, body: int, step: int) -> None:
        self.sequence = max(1, self.sequence + step)
        id = f"e{self.sequence}"
        self.queue.put(self.sequence, id, bytes(body))
        self.waiting.append((id, bytes(body)))
        self.after = self.sequence

    @rule(step=st.integers(1, 5))
    def pass_by(self, step: int) -> None:
        self.sequence += step
        self.queue.pass_by(self.sequence)
        self.after = self.sequence

    @rule(refused=st.booleans())
    def send(self, refused: bool) -> None:
        one = self.queue.first()
        assert (None if one is None else (one.id, one.body)) == (self.waiting[0] if self.waiting else None)
        if one is not None:
            self.queue.done(one, refused=refused)
            self.waiting.pop(0)
            self.refused += refused

    @rule()
    def restart(self) -> None:
        self.queue.close()
        self.queue = self.open()

    @rule()
    def kill(self) -> None:
        """What a killed process leaves: the files as they are now."""
        old = self.folder / f"queue{self.files}"
        self.files += 1
        for end in ("", "-wal"):
            if (path := old.with_name(old.name + end)).exists():
                shutil.copy(path, self.folder / f"queue{self.files}{end}")
        self.queue.close()
        self.queue = self.open()

    @invariant()
    def holds(self) -> None:
        assert (len(self.queue), self.queue.refused, self.queue.after) == (
            len(self.waiting), self.refused, self.after,
        )  # fmt: skip
        size = sum(len(body) for _, body in self.waiting)
        assert len(self.waiting) <= MOST_EVENTS
        assert size <= MOST_BYTES + LARGEST
        assert self.queue.full == (len(self.waiting) >= MOST_EVENTS or size >= MOST_BYTES)

    def teardown(self) -> None:
        self.queue.close()
        shutil.rmtree(self.folder)


QueueMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestQueue = QueueMachine.TestCase
