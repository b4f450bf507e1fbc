"""Whatever happens to a stream, in whatever order: frames are conserved and leave in order, each once."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flight import UNKNOWN, Close, Command, Outcome, Send, Shot
from hams_services.pipeline.selection import selection_of
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire.messages.plan import Plan
from support.build import group_spec, output, plan


def spec_of(det: dict[str, Any], age: dict[str, Any]) -> GroupSpec:
    spec = group_spec(streams={"cam": {"source": "push"}}).model_dump(mode="json", exclude_unset=True)
    spec["nodes"]["det"] |= det
    spec["nodes"]["age"] |= age
    return parse_group(spec)


SPECS = [
    group_spec(),
    spec_of({"track": {}}, {}),
    spec_of({"track": {}, "cadence": 3}, {"cadence": "track"}),
    spec_of({"track": {"confirm_hits": 1}, "cadence": "auto"}, {"cadence": 2}),
    spec_of({}, {"when": "score > 0.5 and box.cx < 100"}),
]
"""Without rules, and with those of tracks."""


def plans(spec: GroupSpec) -> list[Plan]:
    return [
        plan(1, {"det": "h.b.one", "age": "h.b.two"}, spec),
        plan(2, {"det": "h.b.two", "age": "h.b.two"}, spec),
        plan(3, {"det": "h.b.three", "age": "h.b.one"}, spec),
    ]


BOX = {"box": [0, 0, 40, 40], "score": 1.0, "label": "face"}


class StreamMachine(RuleBasedStateMachine):
    @initialize(lossless=st.booleans(), window=st.integers(1, 4), spec=st.sampled_from(SPECS))
    def start(self, lossless: bool, window: int, spec: GroupSpec) -> None:
        chosen = selection_of(spec, spec.streams.get("cam"))
        self.core = StreamCore("cam", lossless, window, deadline_s=1.0, selection=chosen)
        self.plans = plans(spec)
        self.media_s = 0.0
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
        self.media_s += 0.04
        shot = UNKNOWN if self.core.selection is None else Shot(self.media_s, (64, 64))
        self.take(self.core.submit(self.now, self.now, shot)[1])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), node=st.sampled_from(["det", "age"]), objects=st.integers(0, 2))
    def answer(self, data: st.DataObject, node: str, objects: int) -> None:
        send = data.draw(st.sampled_from(self.sent))
        sources = [*send.sources] if send.node == node == "age" else [0] * min(objects, 1)
        items = [[dict(BOX)] * objects] if node == "det" else [{"value": 1} for _ in sources]
        self.take(self.core.output(output(send.id, node, items, [0] if node == "det" else sources), self.now))

    @precondition(lambda self: self.sent)
    @rule(
        data=st.data(),
        node=st.sampled_from(["det", "age"]),
        code=st.sampled_from(["stale-epoch", "refused", "bad-model", "internal"]),
    )
    def refuse(self, data: st.DataObject, node: str, code: str) -> None:
        send = data.draw(st.sampled_from(self.sent))
        self.take(self.core.output(output(send.id, node, [], error=code), self.now))

    @rule(chosen=st.sampled_from([None, 0, 1, 2]), broken=st.sets(st.sampled_from(["h.b.one", "h.b.two", "h.b.three"])))
    def route(self, chosen: int | None, broken: set[str]) -> None:
        self.take(self.core.route(None if chosen is None else self.plans[chosen], broken, self.now))

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
