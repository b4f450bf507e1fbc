"""Whatever comes, goes and is started anew: the MQTT broker retains what is true, and nothing else.

The broker is a dict. A bridge may die after any message, and another one finds only what the broker retains.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hams_client import Event
from hams_services.sinks.mqtt.core import GONE, BridgeCore
from hams_services.sinks.mqtt.topics import Topics
from hams_shared.wire.messages.pipeline import PipelineView
from support.mqtt_site import happened, scheduler_view, stream_view, yard

GROUPS = st.sampled_from(["yard", "face"])
ZONES = st.sets(st.sampled_from(["a", "b"]))
OTHERS = {"hams/yard/cam/lamp": b"1", "home/light": b"ON", "homeassistant/device/x/config": b'{"origin": {}}'}


class BridgeMachine(RuleBasedStateMachine):
    """`journal`: all events of each group; `open`: label and zones of the tracks that are open, by group and track."""

    @initialize()
    def begin(self) -> None:
        self.broker: dict[str, bytes] = dict(OTHERS)
        self.zones = {"yard": ("a", "b")}
        self.journal: dict[str, list[Event]] = {"yard": [], "face": []}
        self.open: dict[tuple[str, int], tuple[str, set[str]]] = {}
        self.sequence, self.now, self.track = 0, 0.0, 0
        self.published: dict[str, list[int]] = {"yard": [], "face": []}
        self.start()

    @rule()
    def start(self) -> None:
        """Kill the bridge; start another one."""
        self.core = BridgeCore(Topics(), None, kinds=("new", "end", "zone_entered"), version="1")
        self.known = self.core.adopt(self.broker)
        self.read: dict[str, int] = {}

    @rule(group=GROUPS, zones=ZONES)
    def deploy(self, group: str, zones: set[str]) -> None:
        self.zones[group] = tuple(sorted(zones))
        for key, (label, inside) in self.open.items():
            if key[0] == group:
                self.open[key] = label, inside & zones

    @rule(group=GROUPS)
    def undeploy(self, group: str) -> None:
        if self.zones.pop(group, None) is not None:
            for key in [key for key in self.open if key[0] == group]:
                self._happen("end", key, reason="undeployed")

    @rule(group=GROUPS, label=st.sampled_from(["person", "car", "c++"]), zones=ZONES)
    def appear(self, group: str, label: str, zones: set[str]) -> None:
        if group in self.zones:
            self.track += 1
            self.open[group, self.track] = label, zones & set(self.zones[group])
            self._happen("new", (group, self.track))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), zones=ZONES, end=st.booleans())
    def move(self, data: st.DataObject, zones: set[str], end: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        self.open[key] = self.open[key][0], zones & set(self.zones[key[0]])
        self._happen("end" if end else "zone_entered", key)

    def _happen(self, kind: str, key: tuple[str, int], **more: str) -> None:
        label, zones = self.open[key] if kind != "end" else (self.open.pop(key)[0], set())
        self.sequence += 1
        made = happened(kind, key[1], self.sequence, group=key[0], zones=tuple(sorted(zones)), **more)  # type: ignore[arg-type]
        self.journal[key[0]].append(made.model_copy(update={"label": label}))

    @rule(dies=st.integers(0, 30))
    def dies_while_it_publishes(self, dies: int) -> None:
        self._look(1)
        self._events(dies)
        for number, one in enumerate(self.core.differences(self.core.desired(self.now), self.known)):
            if number >= dies:
                break
            self._publish(one.topic, one.payload)
        self.start()

    @rule()
    def pipeline_is_away(self) -> None:
        self.core.look(None, None, self.now)
        self._sync()
        assert self.broker["hams/status"] == b"offline"

    @rule()
    def settle(self) -> None:
        self._look(GONE)
        self._events()
        self._sync()
        self._check()

    def _look(self, times: int) -> None:
        specs = [yard(name, zones=zones, lines=()) for name, zones in self.zones.items()]
        views = tuple(stream_view(name) for name in self.zones)
        for _ in range(times):
            self.now += 20.0
            self.core.look(scheduler_view(*specs), PipelineView(streams=views), self.now)

    def _events(self, limit: int = 10**6) -> None:
        for group in self.core.groups:
            after = self.read.get(group, self.core.after(group))
            if after is None:
                after = self.core.recall(group, self.journal[group])
            for one in [one for one in self.journal[group] if one.sequence > after][:limit]:
                if self.core.take(one) is not None:
                    self.published[group].append(one.sequence)
                self.core.dealt_with(group, one.sequence)
                after = one.sequence
            self.read[group] = after

    def _sync(self) -> None:
        desired = self.core.desired(self.now, settled=True)
        for one in self.core.differences(desired, dict(self.known)):
            self._publish(one.topic, one.payload)
        assert not list(self.core.differences(desired, self.known)), "the second time there is nothing to do"

    def _publish(self, topic: str, payload: bytes) -> None:
        for store in (self.broker, self.known):
            if payload:
                store[topic] = payload
            else:
                store.pop(topic, None)

    def _check(self) -> None:
        assert self.broker["hams/status"] == b"online"
        for group, zones in self.zones.items():
            inside = [one for key, one in self.open.items() if key[0] == group]
            for zone in zones:
                count = sum(zone in where for _, where in inside)
                assert self.broker[f"hams/{group}/cam/zone/{zone}/count"] == b"%d" % count
                assert self.broker[f"hams/{group}/cam/zone/{zone}/occupancy"] == (b"ON" if count else b"OFF")
            for label, level in (("person", "person"), ("car", "car"), ("c++", "c%2B%2B")):
                count = sum(label == one for one, _ in inside)
                found = self.broker.get(f"hams/{group}/cam/label/{level}/count", b"0")
                assert found == b"%d" % count
        groups = {topic.split("/")[1] for topic in self.broker.keys() - OTHERS.keys() if topic.startswith("hams/")}
        assert groups <= {"status", *self.zones}
        shown = {topic for topic in self.broker.keys() - OTHERS.keys() if topic.startswith("homeassistant/")}
        assert shown == {f"homeassistant/device/hams_{group}_cam/config" for group in self.zones}

    @invariant()
    def others_are_left_alone(self) -> None:
        assert {topic: self.broker[topic] for topic in OTHERS} == OTHERS


BridgeMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
TestBridge = BridgeMachine.TestCase
