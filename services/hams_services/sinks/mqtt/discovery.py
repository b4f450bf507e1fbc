"""How Home Assistant finds the entities: one device per stream, described in one message. Pure.

Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. A device needs `device`, `origin` and
`components`; each component needs `platform` and `unique_id`. A component that is gone is sent once more with its
platform only, then left out; an empty message removes the device. `default_entity_id` replaces `object_id`, which Home
Assistant 2026.4 no longer reads.
"""

from __future__ import annotations

import json
import re
from typing import Any, get_args

from hams_services.sinks.mqtt.occupancy import ANY
from hams_services.sinks.mqtt.states import StreamFacts, levels, places
from hams_services.sinks.mqtt.topics import Topics, identifier
from hams_shared.wire.messages.events import EventKind
from hams_shared.wire.messages.pipeline import StreamView

ORIGIN = "HAMS"
FRESH_S = 300
"""Home Assistant's event entity ignores older events: those that came while the bridge was away start nothing."""

Component = dict[str, Any]


def config(
    facts: StreamFacts, labels: tuple[str, ...], topics: Topics, version: str, *, snapshots: bool
) -> dict[str, Any]:
    """Return the discovery payload of a stream, as :func:`packed` writes it."""
    found = _Components(facts, topics)
    _diagnostics(found)
    if facts.tracked:
        for place in places(facts):
            for label in (ANY, *labels):
                _presence(found, place, label)
        for line in facts.lines:
            _crossings(found, line)
        _event(found)
        if snapshots:
            found.add("camera", "snapshot", "Snapshot", topic=found.topic("snapshot"))
    return {
        "device": {
            "identifiers": [found.device],
            "name": f"{facts.group} {facts.stream}",
            "manufacturer": "HAMS",
            "model": "Video stream",
            "sw_version": version,
        },
        "origin": {"name": ORIGIN, "sw_version": version},
        "availability": [{"topic": topics.status}, {"topic": found.topic("availability")}],
        "availability_mode": "all",
        "qos": 1,
        "components": found.all,
    }


class _Components:
    """The components of one device, by id."""

    def __init__(self, facts: StreamFacts, topics: Topics) -> None:
        self._facts, self._topics = facts, topics
        self.device = identifier(topics.site, facts.group, facts.stream)
        self.all: dict[str, Component] = {}

    def topic(self, *parts: str) -> str:
        """Return a topic of the stream."""
        return self._topics.of(self._facts.group, self._facts.stream, *parts)

    def add(self, platform: str, id: str, name: str, **more: Any) -> None:
        """Add a component; `id` is unique in the device."""
        slug = "_".join(re.findall(r"[a-z0-9]+", f"{self._facts.group} {self._facts.stream} {name}".lower()))
        self.all[id] = {
            "platform": platform,
            "unique_id": f"{self.device}_{id}",
            "default_entity_id": f"{platform}.{slug}",
            "name": name,
            **more,
        }

    @property
    def always(self) -> dict[str, Any]:
        """Keys of a component that is available while the stream does not play."""
        return {"availability": [{"topic": self._topics.status}]}


def _diagnostics(found: _Components) -> None:
    of = {"entity_category": "diagnostic"}
    number = {**of, "state_class": "measurement"}
    states = list(get_args(StreamView.model_fields["state"].annotation))
    found.add(
        "sensor", "state", "State", state_topic=found.topic("state"), device_class="enum", options=states, **of,
        **found.always,
    )  # fmt: skip
    found.add(
        "sensor", "fps", "FPS", state_topic=found.topic("fps"), unit_of_measurement="fps", icon="mdi:speedometer",
        suggested_display_precision=1, **number,
    )  # fmt: skip
    found.add(
        "sensor", "latency", "Latency", state_topic=found.topic("latency_ms"), device_class="duration",
        unit_of_measurement="ms", suggested_display_precision=0, **number,
    )  # fmt: skip


def _presence(found: _Components, place: str, label: str) -> None:
    where = levels(place, label)
    words = " ".join(part for part in (place, label) if part)
    found.add(
        "binary_sensor", identifier(*where, "occupancy"), _capital(f"{words} occupancy".strip()),
        state_topic=found.topic(*where, "occupancy"), device_class="occupancy",
    )  # fmt: skip
    found.add(
        "sensor", identifier(*where, "count"), _capital(f"{words} count".strip()),
        state_topic=found.topic(*where, "count"), state_class="measurement", icon="mdi:counter",
    )  # fmt: skip


def _crossings(found: _Components, line: str) -> None:
    for direction in ("in", "out"):
        found.add(
            "sensor", identifier("line", line, direction), _capital(f"{line} {direction}"),
            state_topic=found.topic("line", line, direction), state_class="total_increasing", icon="mdi:counter",
        )  # fmt: skip


def _event(found: _Components) -> None:
    kinds = list(get_args(EventKind))
    found.add(
        "event", "event", "Event", state_topic=found.topic("event"), event_types=kinds,
        value_template=f"{{{{ value if as_timestamp(now()) - value_json.captured < {FRESH_S} else '' }}}}",
    )  # fmt: skip


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def packed(payload: dict[str, Any]) -> bytes:
    """Return a payload as it is published."""
    return json.dumps(payload, ensure_ascii=False).encode()


def ours(payload: bytes, topics: Topics) -> bool:
    """Whether a discovery payload is one of a bridge with this base topic."""
    try:
        found = json.loads(payload)
        return bool(found["origin"]["name"] == ORIGIN and found["availability"][0]["topic"] == topics.status)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False


def farewell(before: bytes, after: bytes) -> bytes | None:
    """Return the message that removes the components of `before` that `after` lacks; None: it lacks none."""
    old, new = json.loads(before), json.loads(after)
    gone = {id: {"platform": one["platform"]} for id, one in old["components"].items() if id not in new["components"]}
    if not gone:
        return None
    return packed({**new, "components": {**new["components"], **gone}})
