"""Whatever is lost, and whenever: the journal has the result of each frame of a lossless stream once, and in order."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hams_services.pipeline.bookmarks import Bookmarks
from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.event_backlog import Backlog
from hams_services.pipeline.flight import Close, Command, Outcome, Send
from hams_services.pipeline.result_ids import result_id, stored_frame, stored_of
from hams_services.pipeline.stream_place import may_go_on_at
from hams_shared.bus.memory.journal import MemoryJournal
from hams_shared.bus.protocol import Bounds
from hams_shared.wire.messages.results import MediaMark
from support.build import group_spec, output, plan

SPEC = group_spec(nodes=("det",))
PLAN = plan(1, {"det": "h.b.one"}, SPEC)
LENGTH = 7
"""Frames of the file, which starts over."""
SUBJECT = "kept.face.cam"


class GoingOnMachine(RuleBasedStateMachine):
    """A pipeline that plays a file without end, its broker, and what the broker has stored."""

    @initialize(window=st.integers(1, 4))
    def start(self, window: int) -> None:
        self.window = window
        self.now = 0.0
        self.journal = MemoryJournal("results", "kept.*.*", Bounds(1 << 30, 1e9, -1, duplicate_s=5.0))
        self.position: tuple[int, MediaMark | None] = (0, None)
        """In KV."""
        self.contents: dict[int, int] = {}
        """By frame: which picture of the file it was."""
        self.live()

    def live(self) -> None:
        """Begin a life of the pipeline: as :class:`hams_services.pipeline.stream.StreamRunner` does."""
        frame, mark = self.position
        self.core = StreamCore("cam", lossless=True, window=self.window, deadline_s=1.0)
        self.core.ledger.resume(frame, 0, {}, {})
        self.bookmarks, self.index = Bookmarks(least=1), 0 if mark is None else mark.index
        if mark is not None:
            self.bookmarks.resume(frame, mark)
        newest = self.journal.newest(SUBJECT, self.now)
        self.stored = -1 if newest is None else stored_frame(newest.id, "r1")
        self.backlog, self.unsure = Backlog(1 << 62, 1 << 62), False
        self.sent: deque[Send] = deque()
        self.take(self.core.route(PLAN, (), self.now))

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send():
                    self.sent.append(command)
                case Close(outcome=Outcome.DELIVERED, frame=frame):
                    self.backlog.add(result_id("face", "cam", "r1", frame), "result", SUBJECT, b"%d" % frame)

    @precondition(lambda self: self.core.wants_frame)
    @rule()
    def read(self) -> None:
        if self.index == LENGTH:
            self.index = 0
            self.bookmarks.restart()
        frame = self.core.ledger.submitted
        assert self.contents.setdefault(frame, self.index) == self.index, "another picture has this number"
        self.index += 1
        self.bookmarks.read(frame, None, 0.0, 0.0)
        if self.bookmarks.full:
            self.bookmarks.keep(may_go_on_at(self.core))
        if frame <= self.stored:
            self.core.ledger.deliver(self.core.ledger.submit())
        else:
            self.take(self.core.submit(self.now, self.now)[1])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), fails=st.booleans())
    def answer(self, data: st.DataObject, fails: bool) -> None:
        send = self.sent[data.draw(st.integers(0, len(self.sent) - 1))]
        self.sent.remove(send)
        error = "refused" if fails else None
        self.take(self.core.output(output(send.id, "det", [] if fails else [[]], [0][: not fails], error), self.now))

    @rule(seconds=st.sampled_from([0.1, 1.1, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.core.tick(self.now))

    @precondition(lambda self: len(self.backlog))
    @rule(acknowledged=st.booleans())
    def store(self, acknowledged: bool) -> None:
        """The broker stores a result; its acknowledgement may be lost, for longer than the broker knows its id."""
        first = self.backlog.first()
        assert first is not None
        newest = self.journal.newest(SUBJECT, self.now) if self.unsure else None
        if newest is None or not stored_of([first.id], newest.id):
            self.journal.store(SUBJECT, first.data, first.id, self.now)
        self.unsure = not acknowledged
        if acknowledged:
            self.backlog.settle(first.number)
            self.take(self.core.published(self.now))

    @rule()
    def write_position(self) -> None:
        frame = self.core.goes_on_at
        self.position = frame, self.bookmarks.behind(frame)

    @rule()
    def kill(self) -> None:
        self.live()

    @rule(broker=st.booleans())
    def stop(self, broker: bool) -> None:
        """SIGTERM, while the broker is there or not."""
        self.take(self.core.close("pipeline-stopped", resumed=True))
        if broker:
            while len(self.backlog):
                self.store(acknowledged=True)
            self.write_position()
        self.live()

    @invariant()
    def each_once_and_in_order(self) -> None:
        if hasattr(self, "core"):
            self.core.validate()
            frames = [int(one.entry.data) for one in self.journal.kept]
            missing = set(range(self.core.goes_on_at)) - set(frames) - self.failed()
            assert not missing, "the stream goes on behind a frame whose result is not stored"
            assert frames == sorted(set(frames)), "a result is stored twice, or late"

    def failed(self) -> set[int]:
        return set(range(self.core.goes_on_at)) if self.core.ledger.failed else set()

    def teardown(self) -> None:
        """All is well again: what was read comes through."""
        if not hasattr(self, "core"):
            return
        for _ in range(500):
            self.wait(10.0)
            while self.sent:
                send = self.sent.popleft()
                self.take(self.core.output(output(send.id, "det", [[]], [0]), self.now))
            while len(self.backlog):
                self.store(acknowledged=True)
            if self.core.idle:
                break
        assert self.core.idle
        self.each_once_and_in_order()


TestGoingOn = GoingOnMachine.TestCase
TestGoingOn.settings = settings(stateful_step_count=60)
