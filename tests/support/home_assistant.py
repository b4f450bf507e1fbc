"""What Home Assistant takes as a discovery payload of a device, as a JSON Schema.

Derived from the pages of its integrations (https://www.home-assistant.io/integrations/), read in November 2026:

- ``mqtt/#device-discovery-payload``: `device` and `origin` must be there, each component needs `platform` and
  `unique_id`; shared options are the availability, `state_topic`, `command_topic`, `qos` and `encoding`. A component
  with nothing but its platform is removed.
- ``mqtt/#discovery-topic``: ids consist of ``[a-zA-Z0-9_-]``.
- ``binary_sensor.mqtt``, ``sensor.mqtt``, ``camera.mqtt``, ``event.mqtt``: required and optional keys.
- ``sensor/#device-class``: units by device class; `enum` needs `options`, and takes neither unit nor state class.
- ``binary_sensor/#device-class``; ``sensor.mqtt``'s `entity_category` is never `config`: a sensor configures nothing.

Unlike Home Assistant, which ignores unknown keys, the schema rejects them: a misspelled key would have no effect.
"""

from __future__ import annotations

from typing import Any

TOPIC = {"type": "string", "pattern": r"^[^+#\x00]+$", "minLength": 1, "maxLength": 65535}
TEXT = {"type": "string", "minLength": 1}
AVAILABILITY = {
    "availability": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["topic"],
            "additionalProperties": False,
            "properties": {
                "topic": TOPIC, "payload_available": TEXT, "payload_not_available": TEXT, "value_template": TEXT
            },
        },
    },
    "availability_mode": {"enum": ["all", "any", "latest"]},
}  # fmt: skip
COMMON = {
    "platform": TEXT,
    "unique_id": TEXT,
    "name": TEXT,
    "icon": {"type": "string", "pattern": "^mdi:[a-z0-9-]+$"},
    "entity_category": {"enum": ["diagnostic"]},
    "enabled_by_default": {"type": "boolean"},
    "json_attributes_topic": TOPIC,
    "json_attributes_template": TEXT,
    "qos": {"enum": [0, 1, 2]},
    **AVAILABILITY,
}
BINARY_CLASSES = [
    "battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat",
    "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem",
    "running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window",
]  # fmt: skip
SENSOR_UNITS: dict[str, list[str]] = {
    "duration": ["d", "h", "min", "s", "ms", "µs"],
    "temperature": ["°C", "°F", "K"],
    "data_rate": ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s"],
}
"""Of the device classes that HAMS might use."""


def _component(platform: str, required: list[str], **properties: Any) -> dict[str, Any]:
    entity = {"default_entity_id": {"type": "string", "pattern": rf"^{platform}\.[a-z0-9]+(_[a-z0-9]+)*$"}}
    return {
        "if": {"properties": {"platform": {"const": platform}}},
        "then": {
            "required": ["platform", "unique_id", *required],
            "additionalProperties": False,
            "properties": {**COMMON, **entity, **properties},
        },
    }


DEVICE_KEYS = (
    "name", "manufacturer", "model", "model_id", "serial_number", "hw_version", "sw_version", "suggested_area",
    "via_device", "configuration_url",
)  # fmt: skip
STATE = {"state_topic": TOPIC, "value_template": TEXT, "expire_after": {"type": "integer", "minimum": 0}}
SENSOR = _component(
    "sensor", ["state_topic"], **STATE,
    device_class={"enum": ["enum", *SENSOR_UNITS]},
    state_class={"enum": ["measurement", "measurement_angle", "total", "total_increasing"]},
    unit_of_measurement=TEXT,
    options={"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
    suggested_display_precision={"type": "integer", "minimum": 0},
    force_update={"type": "boolean"},
)  # fmt: skip
SENSOR["then"]["allOf"] = [
    {
        "if": {"properties": {"device_class": {"const": "enum"}}, "required": ["device_class"]},
        "then": {
            "required": ["options"],
            "not": {"anyOf": [{"required": ["unit_of_measurement"]}, {"required": ["state_class"]}]},
        },
        "else": {"not": {"required": ["options"]}},
    },
    *(
        {
            "if": {"properties": {"device_class": {"const": name}}, "required": ["device_class"]},
            "then": {"required": ["unit_of_measurement"], "properties": {"unit_of_measurement": {"enum": units}}},
        }
        for name, units in SENSOR_UNITS.items()
    ),
]
BINARY_SENSOR = _component(
    "binary_sensor", ["state_topic"], **STATE,
    device_class={"enum": BINARY_CLASSES}, payload_on=TEXT, payload_off=TEXT, off_delay={"type": "integer"},
)  # fmt: skip
CAMERA = _component("camera", ["topic"], topic=TOPIC, image_encoding={"const": "b64"})
EVENT = _component(
    "event", ["event_types", "state_topic"],
    state_topic=TOPIC, value_template=TEXT, device_class={"enum": ["button", "doorbell", "motion"]},
    event_types={"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
)  # fmt: skip

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "anyOf": [{"required": ["identifiers"]}, {"required": ["connections"]}],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "minItems": 1, "items": TEXT},
                "connections": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
                **dict.fromkeys(DEVICE_KEYS, TEXT),
            },
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": TEXT, "sw_version": TEXT, "support_url": TEXT},
        },
        "components": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[a-zA-Z0-9_-]+$"},
            "additionalProperties": {
                "type": "object",
                "required": ["platform"],
                "properties": {"platform": {"enum": ["binary_sensor", "sensor", "camera", "event"]}},
                "if": {"maxProperties": 1},
                "else": {"allOf": [SENSOR, BINARY_SENSOR, CAMERA, EVENT]},
            },
        },
        "state_topic": TOPIC,
        "command_topic": TOPIC,
        "qos": {"enum": [0, 1, 2]},
        "encoding": TEXT,
        **AVAILABILITY,
    },
}  # fmt: skip
