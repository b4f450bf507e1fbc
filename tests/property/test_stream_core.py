"""Whatever happens to a stream, in whatever order: frames are conserved and leave in order, each once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hams_services.pipeline.core import Close, Command, Outcome, Send, StreamCore
from support.build import output, plan

PLANS = [
    plan(1, {"det": "h.b.one", "age": "h.b.two"}),
    plan(2, {"det": "h.b.two", "age": "h.b.two"}),
    plan(3, {"det": "h.b.three", "age": "h.b.one"}),
]
BOX = {"box": [0, 0, 1, 1], "score": 1.0, "label": "face"}


class StreamMachine(RuleBasedStateMachine):
    @initialize(lossless=st.booleans(), window=st.integers(1, 4))
    def start(self, lossless: bool, window: int) -> None:
        self.core = StreamCore("cam", lossless, window, deadline_s=1.0)
        self.now = 0.0
        self.sent: list[Send] = []
        self.closed: dict[int, Outcome] = {}
        self.delivered: list[int] = []

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send():
                    assert self.core.plan is command.plan
                    assert command.id.frame not in self.closed
                    self.sent.append(command)
                case Close():
                    assert command.frame not in self.closed, "closed twice"
                    self.closed[command.frame] = command.outcome
                    if command.outcome is Outcome.DELIVERED:
                        self.delivered.append(command.frame)

    @precondition(lambda self: self.core.wants_frame)
    @rule()
    def submit(self) -> None:
        self.take(self.core.submit(self.now, self.now)[1])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), node=st.sampled_from(["det", "age"]), objects=st.integers(0, 2))
    def answer(self, data: st.DataObject, node: str, objects: int) -> None:
        send = data.draw(st.sampled_from(self.sent))
        items = [[dict(BOX)]] if node == "det" else [{"value": 1}] * min(objects, 1)
        self.take(self.core.output(output(send.id, node, items, [0] * len(items)), self.now))

    @precondition(lambda self: self.sent)
    @rule(
        data=st.data(),
        node=st.sampled_from(["det", "age"]),
        code=st.sampled_from(["stale-epoch", "refused", "bad-model", "internal"]),
    )
    def refuse(self, data: st.DataObject, node: str, code: str) -> None:
        send = data.draw(st.sampled_from(self.sent))
        self.take(self.core.output(output(send.id, node, [], error=code), self.now))

    @rule(chosen=st.sampled_from([None, *PLANS]), broken=st.sets(st.sampled_from(["h.b.one", "h.b.two", "h.b.three"])))
    def route(self, chosen: object, broken: set[str]) -> None:
        self.take(self.core.route(chosen, broken, self.now))  # type: ignore[arg-type]

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.1, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.core.tick(self.now))

    @precondition(lambda self: self.core.unpublished)
    @rule()
    def publish(self) -> None:
        self.take(self.core.published(self.now))

    @rule(frame=st.integers(0, 10))
    def give_up(self, frame: int) -> None:
        self.take(self.core.give_up(frame, "deadline", self.now))

    @invariant()
    def conserved(self) -> None:
        if not hasattr(self, "core"):
            return
        self.core.validate()
        assert set(self.closed) | self.core.ledger.open == set(range(self.core.ledger.submitted))

    @invariant()
    def in_order(self) -> None:
        if hasattr(self, "delivered"):
            assert self.delivered == sorted(set(self.delivered))

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.take(self.core.close("undeployed"))
            self.conserved()
            assert not self.core.ledger.open, "a frame outlives its stream"


TestStreamMachine = StreamMachine.TestCase
