"""Discovery payloads, against a schema of what Home Assistant documents (see support/home_assistant.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_services.sinks.mqtt import discovery
from hams_services.sinks.mqtt.occupancy import Occupancy
from hams_services.sinks.mqtt.states import Speed, StreamFacts, event_payload, facts_of, states_of
from hams_services.sinks.mqtt.topics import Topics
from support.home_assistant import SCHEMA
from support.mqtt_site import happened, yard

VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FACTS = facts_of(yard())["cam"]


def config(facts: StreamFacts = FACTS, *labels: str, **more: Any) -> dict[str, Any]:
    found = discovery.config(facts, labels, Topics(), "0.1", **{"snapshots": True, **more})
    return json.loads(discovery.packed(found))  # type: ignore[no-any-return]


def test_the_payload_of_a_stream_with_a_zone_and_a_line() -> None:
    payload = config(FACTS, "person")
    VALIDATOR.validate(payload)
    assert (payload["device"]["identifiers"], payload["device"]["name"]) == (["hams_yard_cam"], "yard cam")
    assert payload["origin"]["name"] == "HAMS"
    names = {one["default_entity_id"]: one["name"] for one in payload["components"].values()}
    assert names == {
        "sensor.yard_cam_state": "State",
        "sensor.yard_cam_fps": "FPS",
        "sensor.yard_cam_latency": "Latency",
        "binary_sensor.yard_cam_occupancy": "Occupancy",
        "sensor.yard_cam_count": "Count",
        "binary_sensor.yard_cam_person_occupancy": "Person occupancy",
        "sensor.yard_cam_person_count": "Person count",
        "binary_sensor.yard_cam_entrance_occupancy": "Entrance occupancy",
        "sensor.yard_cam_entrance_count": "Entrance count",
        "binary_sensor.yard_cam_entrance_person_occupancy": "Entrance person occupancy",
        "sensor.yard_cam_entrance_person_count": "Entrance person count",
        "sensor.yard_cam_gate_in": "Gate in",
        "sensor.yard_cam_gate_out": "Gate out",
        "event.yard_cam_event": "Event",
        "camera.yard_cam_snapshot": "Snapshot",
    }
    assert payload["components"]["zone_entrance_label_person_occupancy"] == {
        "platform": "binary_sensor",
        "unique_id": "hams_yard_cam_zone_entrance_label_person_occupancy",
        "default_entity_id": "binary_sensor.yard_cam_entrance_person_occupancy",
        "name": "Entrance person occupancy",
        "state_topic": "hams/yard/cam/zone/entrance/label/person/occupancy",
        "device_class": "occupancy",
    }


def test_each_state_topic_is_published() -> None:
    """What discovery names and what is retained are the same topics: neither is without the other."""
    occupancy = Occupancy()
    occupancy.know("cam", ["person", "c++"])
    told = {one.get("state_topic") for one in config(FACTS, "person", "c++")["components"].values()} - {None}
    view = states_of(FACTS, Speed(0, 1, 2), occupancy, Topics())
    lines = {"hams/yard/cam/line/gate/in", "hams/yard/cam/line/gate/out"}  # once the pipeline counts them
    assert told - {"hams/yard/cam/event"} == set(view) - {"hams/yard/cam/availability"} | lines


def test_a_group_without_tracks_has_diagnostics_only() -> None:
    payload = config(StreamFacts("face", "lobby"))
    VALIDATOR.validate(payload)
    assert set(payload["components"]) == {"state", "fps", "latency"}
    assert "snapshot" not in config(FACTS, snapshots=False)["components"]


@settings(max_examples=20)
@given(st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=5))
def test_any_label_makes_a_valid_payload(labels: list[str]) -> None:
    payload = config(FACTS, *labels)
    VALIDATOR.validate(payload)
    ids = [one["unique_id"] for one in payload["components"].values()]
    assert len(set(ids)) == len(ids) == 3 + 4 * (1 + len(labels)) + 4


def _sensor(payload: dict[str, Any], name: str = "fps") -> dict[str, Any]:
    return payload["components"][name]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: one.pop("origin"),
        lambda one: one["device"].pop("identifiers"),
        lambda one: _sensor(one).pop("unique_id"),
        lambda one: _sensor(one).pop("state_topic"),
        lambda one: _sensor(one).update(device_class="speeed"),
        lambda one: _sensor(one).update(state_class="meter"),
        lambda one: _sensor(one).update(entity_category="config"),
        lambda one: _sensor(one).update(object_id="yard"),
        lambda one: _sensor(one).update(state_topic="a/+/b"),
        lambda one: _sensor(one, "latency").update(unit_of_measurement="fps"),
        lambda one: _sensor(one, "state").pop("options"),
        lambda one: _sensor(one, "state").update(state_class="measurement"),
        lambda one: _sensor(one, "occupancy").update(device_class="somebody"),
        lambda one: _sensor(one, "snapshot").pop("topic"),
        lambda one: _sensor(one, "event").pop("event_types"),
        lambda one: one.update(availability_mode="most"),
    ],
)
def test_the_schema_finds_mistakes(spoil: Callable[[dict[str, Any]], None]) -> None:
    payload = config(FACTS, "person")
    spoil(payload)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(payload)


def test_components_that_are_gone_are_removed_first() -> None:
    before = discovery.packed(config(facts_of(yard(zones=("entrance", "door")))["cam"], "person"))
    after = discovery.packed(config(FACTS, "person"))
    last = discovery.farewell(before, after)
    assert last is not None
    payload = json.loads(last)
    VALIDATOR.validate(payload)
    gone = {id: one for id, one in payload["components"].items() if "door" in id}
    assert list(gone.values()) == [{"platform": "binary_sensor"}, {"platform": "sensor"}] * 2
    assert discovery.farewell(after, before) is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{", b"{}", b'{"origin": {"name": "HAMS"}}', b'{"origin": {"name": "other"}}', b"\xff", b"[" * 99999],
)
def test_payloads_of_others_are_not_ours(payload: bytes) -> None:
    assert not discovery.ours(payload, Topics())
    assert discovery.ours(discovery.packed(config()), Topics())
    assert not discovery.ours(discovery.packed(config()), Topics("other"))


def test_an_event_is_what_home_assistant_takes_as_one() -> None:
    payload = json.loads(event_payload(happened("zone_dwell", 3, zone="entrance", dwell_s=10.2, crop=b"\xff")))
    assert payload["event_type"] in config()["components"]["event"]["event_types"]
    assert payload["text"] == "yard: person stayed 10 s in entrance"
    assert "crop" not in payload
