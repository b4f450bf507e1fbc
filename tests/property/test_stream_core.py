"""Whatever happens to a stream, in whatever order: frames are conserved and leave in order, each once."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hams_services.pipeline.canary import Canary
from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flight import Close, Command, Outcome, Send, Shot
from hams_services.pipeline.selection import selection_of
from hams_services.pipeline.selection_rules import SelectionRules
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


def wider(child: dict[str, Any]) -> GroupSpec:
    """A group with another node, `more`."""
    spec = group_spec(nodes=("det", "age", "more"), streams={"cam": {"source": "push"}})
    data = spec.model_dump(mode="json", exclude_unset=True)
    data["nodes"]["more"] |= child
    return parse_group(data)


CHANGED = [
    *SPECS,
    wider({}),
    wider({"when": "score > 0.5"}),
    group_spec(nodes=("det",), streams={"cam": {"source": "push"}}),
    spec_of({"track": {}}, {"cadence": "track", "budget": 0.5}),
    spec_of({"track": {"max_objects": 1}, "cadence": 2}, {"parent": "det", "when": "label == 'face'"}),
]
"""What a group may be changed to while frames are under way."""


def plans(spec: GroupSpec, epoch: int = 0) -> list[Plan]:
    places = [("h.b.one", "h.b.two"), ("h.b.two", "h.b.two"), ("h.b.three", "h.b.one")]
    return [
        plan(epoch + number, {node: first if node == "det" else second for node in spec.nodes}, spec)
        for number, (first, second) in enumerate(places, 1)
    ]


def tried_plans(spec: GroupSpec) -> list[Plan]:
    """Of a candidate for the group."""
    tried = spec.model_copy(update={"name": "face--candidate"})
    return [
        plan(4, {"det": "h.b.three", "age": "h.b.two"}, tried),
        plan(5, {"det": "h.b.four", "age": "h.b.four"}, tried),
    ]


BOX = {"box": [0, 0, 40, 40], "score": 1.0, "label": "face"}
MALFORMED: list[list[Any]] = [[7], [[7]], [[{"box": 3}]], [[{"box": [0, 0, 9, 9], "label": 3}]], [[BOX | {"label": 3}]]]


class StreamMachine(RuleBasedStateMachine):
    gives_up = False
    """Whether an application, or the end of the stream, ends frames."""

    @initialize(lossless=st.booleans(), window=st.integers(1, 4), spec=st.sampled_from(SPECS))
    def start(self, lossless: bool, window: int, spec: GroupSpec) -> None:
        chosen = selection_of(spec, spec.streams.get("cam"))
        self.core = StreamCore("cam", lossless, window, deadline_s=1.0, selection=chosen)
        self.plans, self.tried = plans(spec), tried_plans(spec)
        self.unserved: set[int] = set()
        """Frames that what serves has not had yet."""
        self.media_s = 0.0
        self.now = 0.0
        self.sent: list[Send] = []
        self.closed: dict[int, Outcome] = {}
        self.delivered: list[int] = []

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send():
                    tried = command.id.group != "face"
                    canary = self.core.canary
                    assert command.id.epoch == command.plan.epoch
                    if command.node == command.plan.group.spec.root:  # its children go on under the frame's plan
                        assert command.plan is (canary.plan if tried and canary is not None else self.core.plan)
                    assert command.id.frame not in self.closed
                    assert len(command.objects) == len(command.sources)
                    if tried and command.id.attempt == 0:
                        self.unserved.add(command.id.frame)
                    elif not tried:
                        self.unserved.discard(command.id.frame)
                    self.sent.append(command)
                case Close():
                    assert command.frame not in self.closed, "closed twice"
                    self.closed[command.frame] = command.outcome
                    if command.frame in self.unserved and not self.gives_up:
                        assert command.outcome is Outcome.DELIVERED, "lost by the candidate"
                    if command.outcome is Outcome.DELIVERED:
                        self.delivered.append(command.frame)
                        assert command.record is not None
                        assert command.join is not None
                        assert command.join.outputs.keys() == command.record.spec.nodes.keys()

    @precondition(lambda self: self.core.wants_frame)
    @rule()
    def submit(self) -> None:
        self.media_s += 0.04
        shot = Shot(self.media_s, (64, 64))
        self.take(self.core.submit(self.now, self.now, shot)[1])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), objects=st.integers(0, 2))
    def answer(self, data: st.DataObject, objects: int) -> None:
        send = data.draw(st.sampled_from(self.sent))
        node = data.draw(st.sampled_from([*send.plan.group.spec.nodes]))
        sources = [*send.sources] if send.node == node != "det" else [0] * min(objects, 1)
        items = [[dict(BOX)] * objects] if node == "det" else [{"value": 1} for _ in sources]
        self.take(self.core.output(output(send.id, node, items, [0] if node == "det" else sources), self.now))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), items=st.sampled_from(MALFORMED))
    def answer_anything(self, data: st.DataObject, items: list[Any]) -> None:
        """The root's task is of a user."""
        send = data.draw(st.sampled_from(self.sent))
        self.take(self.core.output(output(send.id, "det", copy.deepcopy(items), [0]), self.now))

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

    @rule(spec=st.sampled_from(CHANGED), chosen=st.integers(0, 2))
    def change(self, spec: GroupSpec, chosen: int) -> None:
        """A plan for another record of the group is in force."""
        self.plans = plans(spec, self.plans[-1].epoch)
        self.core.change(1.0, SelectionRules(spec, spec.streams.get("cam")))
        self.take(self.core.route(self.plans[chosen], (), self.now))

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
        self.gives_up = True
        self.take(self.core.give_up(frame, "deadline", self.now))
        self.gives_up = False

    @rule(share=st.sampled_from([0.0, 0.3, 1.0]), chosen=st.sampled_from([None, 0, 1]))
    def set_canary(self, share: float, chosen: int | None) -> None:
        canary = Canary("cam", share, None if chosen is None else self.tried[chosen]) if share else None
        self.take(self.core.set_canary(canary, self.now))

    @rule(chosen=st.sampled_from([None, 0, 1]), broken=st.sets(st.sampled_from(["h.b.two", "h.b.three", "h.b.four"])))
    def route_canary(self, chosen: int | None, broken: set[str]) -> None:
        self.take(self.core.route_canary(None if chosen is None else self.tried[chosen], broken, self.now))

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
            self.gives_up = True
            self.take(self.core.close("undeployed"))
            self.conserved()
            assert not self.core.ledger.open, "a frame outlives its stream"


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(max_examples=40)
