"""What the broker shall retain about the streams: topic → payload. Pure.

Payloads are what people and Home Assistant read without a template: ``ON``, ``3``, ``online``, ``playing``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from hams_client import Event
from hams_services.sinks.mqtt.occupancy import ANY, PICTURE, Occupancy
from hams_services.sinks.mqtt.topics import OFFLINE, ONLINE, Topics
from hams_services.sinks.sentences import sentence
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.pipeline import StreamView

Retained = dict[str, bytes]
"""By topic."""


@dataclass(frozen=True)
class StreamFacts:
    """One stream that is deployed."""

    group: str
    stream: str
    tracked: bool = False
    """Whether the group follows objects, so that there are events."""
    zones: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """That rules of the group name."""
    view: StreamView | None = None
    """None: the pipeline does not play it."""

    @property
    def plays(self) -> bool:
        """Whether frames come, so that zones are watched."""
        return self.view is not None and self.view.state == "playing"


def facts_of(spec: GroupSpec) -> dict[str, StreamFacts]:
    """Return the streams of a group by name, without their views."""
    labels = tuple(dict.fromkeys(label for rule in spec.events.rules.values() for label in rule.labels))
    tracked = spec.nodes[spec.root].track is not None
    return {
        name: StreamFacts(spec.name, name, tracked, tuple(one.zones), tuple(one.lines), labels)
        for name, one in spec.streams.items()
    }


@dataclass(frozen=True)
class Speed:
    """How fast a stream was when it was last published: it changes all the time, and is retained seldom."""

    at: float
    fps: float
    latency_ms: float


def places(facts: StreamFacts) -> tuple[str, ...]:
    """Return the places of a stream that have counts: the picture and its zones; none without tracks."""
    return (PICTURE, *facts.zones) if facts.tracked else ()


def levels(place: str, label: str) -> tuple[str, ...]:
    """Return the levels of the topic of a place and a label, without its last one."""
    return (*(("zone", place) if place != PICTURE else ()), *(("label", label) if label != ANY else ()))


def states_of(facts: StreamFacts, speed: Speed, occupancy: Occupancy, topics: Topics) -> Retained:
    """Return the states of one stream."""

    def of(*parts: str) -> str:
        return topics.of(facts.group, facts.stream, *parts)

    found = {
        of("availability"): ONLINE if facts.plays else OFFLINE,
        of("state"): (facts.view.state if facts.view else "waiting").encode(),
        of("fps"): b"%.1f" % speed.fps,
        of("latency_ms"): b"%.0f" % speed.latency_ms,
    }
    counts = occupancy.counts(facts.stream)
    for place in places(facts):
        for label in (ANY, *occupancy.labels(facts.stream)):
            where, count = levels(place, label), counts[place, label]
            found[of(*where, "count")] = b"%d" % count
            found[of(*where, "occupancy")] = b"ON" if count else b"OFF"
    return found | dict(_crossings(facts, topics))


def _crossings(facts: StreamFacts, topics: Topics) -> Iterator[tuple[str, bytes]]:
    counts = facts.view.places.lines if facts.view else {}
    for line in facts.lines if facts.tracked else ():
        if line in counts:
            yield topics.of(facts.group, facts.stream, "line", line, "in"), b"%d" % counts[line].ins
            yield topics.of(facts.group, facts.stream, "line", line, "out"), b"%d" % counts[line].outs


def event_payload(event: Event) -> bytes:
    """Return an event as JSON: its fields, what Home Assistant calls `event_type`, and a sentence; without its crop."""
    fields = event.model_dump(mode="json", exclude={"crop"})
    return json.dumps({"event_type": event.kind, "text": sentence(event)} | fields, ensure_ascii=False).encode()
