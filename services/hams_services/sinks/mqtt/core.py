"""What the bridge knows, and what the broker shall retain because of it. Pure; `now` is any monotonic time, s.

The broker is the bridge's only memory. What it retains is compared with what it should, so a restart of the bridge, of
the broker or of HAMS, and what came or went meanwhile, are one case: the difference is published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from hams_client import Event
from hams_services.sinks.mqtt import discovery
from hams_services.sinks.mqtt.occupancy import PICTURE, Occupancy, Position
from hams_services.sinks.mqtt.states import Retained, Speed, StreamFacts, event_payload, facts_of, states_of
from hams_services.sinks.mqtt.topics import OFFLINE, ONLINE, Topics
from hams_shared.errors import MessageError
from hams_shared.group.regions import Regions
from hams_shared.wire import codec
from hams_shared.wire.messages.events import PlaceCounts
from hams_shared.wire.messages.pipeline import PipelineView
from hams_shared.wire.messages.scheduler import SchedulerView

SPEED_S = 10.0
"""FPS and latency are published so often at most, s."""
POSITION_S = 1.0
"""And the position, while events come, s."""
GONE = 2
"""A group is gone once so many answers of the scheduler in a row lack it."""
SNAPSHOT = frozenset({"rule", "zone_entered", "line_crossed"})
"""Kinds of events that a picture is taken of."""
UPDATE = "update"


@dataclass(frozen=True)
class Publication:
    """A message to publish; an empty payload removes what is retained."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass
class _Group:
    """One group that is bridged."""

    streams: dict[str, StreamFacts]
    occupancy: Occupancy
    regions: Mapping[str, Regions] = field(default_factory=dict)
    """The places in the pictures, by stream."""
    after: int | None = None
    """Sequence of the last event that the MQTT broker has taken; None: it has taken none yet."""
    missed: int = 0
    """Answers of the scheduler in a row that lack it."""
    position: tuple[float, bytes] = (float("-inf"), b"")
    """As it was published last, and when."""
    configs: dict[str, tuple[tuple[StreamFacts, tuple[str, ...]], bytes]] = field(default_factory=dict)
    """Discovery payloads by stream, and what they were made of."""


class BridgeCore:
    """The bridge of `groups`, or of all if None."""

    def __init__(
        self,
        topics: Topics,
        groups: Collection[str] | None = None,
        *,
        kinds: Collection[str] = (),
        snapshots: bool = True,
        version: str = "",
    ) -> None:
        self._topics, self._only, self._kinds = topics, groups, frozenset(kinds)
        self._snapshots, self._version = snapshots, version
        self._groups: dict[str, _Group] = {}
        self._positions: dict[str, Position] = {}
        """Those that the broker retained, of groups that are not known yet."""
        self._speeds: dict[tuple[str, str], Speed] = {}
        self._pictures: dict[tuple[str, str], bytes] = {}
        self._answers = 0
        """Of the scheduler; GONE at most."""
        self.current = False
        """Whether HAMS answered to the last look."""

    # ── what comes from HAMS ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def known(self) -> bool:
        """Whether HAMS has answered, so that there are groups."""
        return self._answers > 0

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of groups that were asked for and are not deployed; none until that is known."""
        return tuple(sorted(set(self._only or ()) - self._groups.keys())) if self._answers >= GONE else ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups whose events are to be read."""
        return tuple(self._groups)

    def look(
        self, scheduler: SchedulerView | None, pipeline: PipelineView | None, now: float, *, behind: bool = False
    ) -> None:
        """Take the answers of scheduler and pipeline; None: it did not answer.

        `behind`: events wait for the MQTT broker, so there may be others that are not read yet. The pipeline's counts,
        which are later than these, do not correct those of tracks then.
        """
        self.current = pipeline is not None and (scheduler is not None or self.known)
        if pipeline is None:
            return
        if scheduler is not None:
            self._answers = min(self._answers + 1, GONE)
            self._deploy(scheduler)
        for name, group in self._groups.items():
            views = {one.stream: one for one in pipeline.streams if one.group == name}
            for stream, facts in group.streams.items():
                self._see(group, replace(facts, view=views.get(stream)), now)
                if stream in views and not behind:
                    self._correct(group, stream, views[stream].places)

    def _deploy(self, scheduler: SchedulerView) -> None:
        there = {one.name: one.active or one.next for one in scheduler.groups}
        for name, plan in there.items():
            if self._only is not None and name not in self._only:
                continue
            group = self._groups.get(name)
            if plan is None and group is None:
                continue  # it is not placed yet: its streams are not known
            if group is None:
                group = self._groups[name] = _Group({}, Occupancy())
                if (position := self._positions.pop(name, None)) is not None:
                    group.occupancy.restore(position)
                    group.after = position.after
            group.missed = 0
            if plan is not None:
                group.streams, group.regions = facts_of(plan.group.spec), plan.group.spec.streams
                group.occupancy.keep(group.streams)
        for name in self._groups.keys() - there.keys():
            self._groups[name].missed += 1
            if self._groups[name].missed >= GONE:
                del self._groups[name]
        alive = {(name, stream) for name, group in self._groups.items() for stream in group.streams}
        self._speeds = {key: one for key, one in self._speeds.items() if key in alive}
        self._pictures = {key: one for key, one in self._pictures.items() if key in alive}

    def _see(self, group: _Group, facts: StreamFacts, now: float) -> None:
        group.streams[facts.stream] = facts
        group.occupancy.know(facts.stream, facts.labels)
        view, key = facts.view, (facts.group, facts.stream)
        before = self._speeds.get(key)
        if before is None or now - before.at >= SPEED_S:
            self._speeds[key] = Speed(now, view.fps if view else 0.0, view.p50_ms if view else 0.0)

    @staticmethod
    def _correct(group: _Group, stream: str, counts: PlaceCounts) -> None:
        """Zones come first: a track that they have too many is the one that the picture has too many."""
        for zone, count in counts.zones.items():
            group.occupancy.correct(stream, zone, count.inside)
        if counts.tracks is not None:
            group.occupancy.correct(stream, PICTURE, counts.tracks)

    def recall(self, group: str, events: list[Event]) -> int:
        """Take stored events that are not to be published: where no position is known. Return where to read on."""
        one = self._groups.get(group)
        for event in events if one else ():
            assert one is not None
            one.occupancy.take(event)
        return events[-1].sequence if events else 0

    def after(self, group: str) -> int | None:
        """Return the sequence behind which a group's events are to be read; None: that is not known."""
        return self._groups[group].after if group in self._groups else None

    def take(self, event: Event) -> Publication | None:
        """Take the next event of a group; return it as it is to be published, None: not at all."""
        group = self._groups.get(event.group)
        if group is None:
            return None
        group.occupancy.take(event)
        if event.kind not in self._kinds:
            return None
        return Publication(self._topics.of(event.group, event.stream, "event"), event_payload(event), retain=False)

    def wants_picture(self, event: Event) -> bool:
        """Whether a picture is to be taken of an event."""
        return self._snapshots and event.kind in SNAPSHOT

    def regions(self, group: str) -> Mapping[str, Regions]:
        """Return the places in the pictures of a group's streams."""
        return self._groups[group].regions if group in self._groups else {}

    def picture(self, group: str, stream: str, jpeg: bytes) -> None:
        """Take a picture of a stream."""
        if group in self._groups and stream in self._groups[group].streams:
            self._pictures[group, stream] = jpeg

    def dealt_with(self, group: str, sequence: int) -> None:
        """The MQTT broker has taken all events of a group up to `sequence`."""
        one = self._groups.get(group)
        if one is not None:
            one.after = max(sequence, one.after or 0)

    # ── what the broker shall retain ──────────────────────────────────────────────────────────────────────────────

    def adopt(self, retained: Mapping[str, bytes]) -> Retained:
        """Return what a bridge with this base topic has published, of all that the broker retains; read positions."""
        topics = self._topics
        found = {
            topic: payload
            for topic, payload in retained.items()
            if topics.is_own(topic) or (topics.is_config(topic) and discovery.ours(payload, topics))
        }
        if not self.known:
            for topic, payload in found.items():
                levels = topic.removeprefix(f"{topics.base}/").split("/")
                if len(levels) == 2 and topic == topics.bridge(levels[0]):
                    self._recall_position(levels[0], payload)
        return found

    def _recall_position(self, group: str, payload: bytes) -> None:
        try:
            self._positions[group] = codec.decode(Position, payload)
        except MessageError:
            return  # written by something else, or by another version: then there is none

    def desired(self, now: float, *, settled: bool = False) -> Retained:
        """Return all that the broker shall retain, in order; `settled`: with the position as it is now."""
        if not self.known:
            return {self._topics.status: OFFLINE}
        found: Retained = {self._topics.status: ONLINE if self.current else OFFLINE}
        for name, group in self._groups.items():
            for facts in group.streams.values():
                found |= self._stream(name, group, facts)
            if group.after is not None:
                found[self._topics.bridge(name)] = self._position(group, group.after, now, settled=settled)
        return found

    def _stream(self, name: str, group: _Group, facts: StreamFacts) -> Retained:
        found: Retained = {}
        labels, key = group.occupancy.labels(facts.stream), (name, facts.stream)
        if self._topics.discovery:
            found[self._topics.config(name, facts.stream)] = self._config(group, facts, labels)
        found |= states_of(facts, self._speeds[key], group.occupancy, self._topics)
        if key in self._pictures:
            found[self._topics.of(name, facts.stream, "snapshot")] = self._pictures[key]
        return found

    def _config(self, group: _Group, facts: StreamFacts, labels: tuple[str, ...]) -> bytes:
        made_of = (replace(facts, view=None), labels)
        before = group.configs.get(facts.stream)
        if before is None or before[0] != made_of:  # it changes seldom, and is most of the work
            payload = discovery.config(facts, labels, self._topics, self._version, snapshots=self._snapshots)
            before = group.configs[facts.stream] = made_of, discovery.packed(payload)
        return before[1]

    def _position(self, group: _Group, after: int, now: float, *, settled: bool) -> bytes:
        if settled or now - group.position[0] >= POSITION_S:
            text = group.occupancy.position(after).model_dump_json().encode()
            if text != group.position[1]:
                group.position = now, text
        return group.position[1]

    def differences(self, desired: Retained, published: Mapping[str, bytes]) -> Iterator[Publication]:
        """Yield what makes the broker retain `desired` instead of `published`.

        Until HAMS has answered, nothing is removed. What says that all is current comes last. A picture
        that an earlier bridge took stays until there is a newer one.
        """
        status = self._topics.status
        for topic, payload in desired.items():
            before = published.get(topic)
            if before == payload or (topic, payload) == (status, ONLINE):
                continue
            if before and self._topics.is_config(topic) and (last := discovery.farewell(before, payload)):
                yield Publication(topic, last)
            yield Publication(topic, payload)
        gone = published.keys() - desired.keys() if self._answers >= GONE else ()
        for topic in sorted(gone, key=lambda one: (not self._topics.is_config(one), one)):
            if not self._is_picture(topic):
                yield Publication(topic, b"")
        if desired.get(status) == ONLINE != published.get(status):
            yield Publication(status, ONLINE)

    def _is_picture(self, topic: str) -> bool:
        return self._snapshots and any(
            topic == self._topics.of(name, stream, "snapshot")
            for name, group in self._groups.items()
            for stream in group.streams
        )
