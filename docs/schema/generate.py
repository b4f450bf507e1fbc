"""Writes the machine-readable documents from the code: ``make schema``.

- ``services/hams_services/models/group.schema.json``: JSON Schema of group.yaml, with every built-in task, for editors;
- ``asyncapi.yaml``: AsyncAPI 3 of the subjects that applications use, with the schema of every message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

import hams_shared
from hams_agents.tasks.registry import BUILT_IN
from hams_shared.group.spec import GroupSpec
from hams_shared.wire import subjects
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.events import Event, EventsAnswer, EventsRequest
from hams_shared.wire.messages.history import HistoryAnswer, HistoryEntry, HistoryRequest
from hams_shared.wire.messages.pipeline import (
    FramePicture,
    FramePreview,
    GroupsView,
    InferAnswer,
    InferRequest,
    OutputsWanted,
    PicturesWanted,
    PipelineLoad,
    PipelineView,
    PreviewWanted,
    PushAnswer,
    PushRequest,
    ReadCost,
    ReadCostRequest,
    Still,
    StillRequest,
)
from hams_shared.wire.messages.results import ResultsAnswer, ResultsRequest
from hams_shared.wire.messages.trace import FrameTrace, TracesWanted
from hams_shared.wire.results import RESULT

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

FRAME_ID = {
    "type": "array",
    "description": "group, stream, frame, attempt, epoch of the plan, captured (Unix time, s)",
    "prefixItems": [{"type": t} for t in ("string", "string", "integer", "integer", "integer", "number")],
}
OUTPUT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "node", "device", "items", "sources", "timing"],
    "properties": {
        "id": FRAME_ID,
        "node": {"type": "string"},
        "device": {"type": "string"},
        "items": {
            "type": "array",
            "description": "one entry per image: a detector's list of objects, or a describing node's map",
        },
        "sources": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "for each entry: the parent's object it is about",
        },
        "timing": {
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "ms: queue, prepare, infer, decode, crop",
        },
        "error": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/WireError"}]},
        "trace": {
            "type": "array",
            "description": "of a traced frame only: traceparent, arrival (Unix time, s), steps (name, begin, end; ms)",
        },
    },
}
PIXELS: dict[str, Any] = {
    "type": "object",
    "required": ["shape"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "N, H, W, 3"},
        "pixels": {"type": "string", "format": "binary", "description": "N×H×W×3 bytes: B, G, R"},
        "pointer": {"type": "array", "description": "instead of pixels: segment, slot, generation, offset"},
    },
}
WORK: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id", "node", "images", "to_frame", "sources", "frame_size"],
        "properties": {
            "id": FRAME_ID,
            "node": {"type": "string"},
            "images": PIXELS,
            "to_frame": {"type": "string", "format": "binary", "description": "N×2×3 float64, little endian"},
            "sources": {"type": "array", "items": {"type": "integer"}},
            "frame_size": {"type": "array", "items": {"type": "integer"}, "description": "width, height, pixels"},
            "route": {"type": "object", "additionalProperties": {"type": "string"}, "description": "device by node"},
            "peers": {"type": "array", "items": {"type": "string"}, "description": "devices that can map the frame"},
            "deferred": {"type": "array", "description": "crops to take from the frame: size, pad, filled, corners"},
            "traceparent": {"type": "string", "description": "W3C, of a traced frame only"},
            "filled": {"type": "array", "description": "of letterboxed crops: width and height of what each shows"},
            "reduced": {**PIXELS, "description": "the frame in fewer pixels, for the input of the root node"},
        },
    },
}


def group_schema() -> dict[str, Any]:
    """Return the JSON Schema of a group file."""
    schema = GroupSpec.model_json_schema()
    definitions = schema["$defs"]
    tasks = []
    for name, task in sorted(BUILT_IN.items()):
        params = task.Params.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        for key, value in params.pop("$defs", {}).items():
            definitions[f"{name}.{key}"] = value
        params["properties"] = {"type": {"const": name}, **params.get("properties", {})}
        params["required"] = ["type", *params.get("required", [])]
        params["title"] = name
        definitions[f"task.{name}"] = params
        tasks.append({"$ref": f"#/$defs/task.{name}"})
    other = {"type": "object", "required": ["type"], "properties": {"type": {"not": {"enum": sorted(BUILT_IN)}}}}
    definitions["TaskSpec"] = {
        "title": "Task",
        "description": "The meaning of the network's outputs; other packages may add tasks.",
        "oneOf": [*tasks, {**other, "title": "a task of another package"}],
    }
    definitions |= _zoo_nodes(definitions)
    definitions["Group"] = {key: value for key, value in schema.items() if key != "$defs"}
    definitions["Groups"] = {
        "description": "Several group files.",
        "type": "object",
        "required": ["groups"],
        "properties": {"groups": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://hams.invalid/group.schema.json",
        "title": "HAMS group file",
        "if": {"type": "object", "required": ["groups"]},
        "then": {"$ref": "#/$defs/Groups"},
        "else": {"$ref": "#/$defs/Group"},
        "$defs": definitions,
    }


def _zoo_nodes(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas of nodes: one with ``model: zoo:NAME`` needs no `input` and `task`, or only parts of them."""
    full = definitions["NodeSpec"]
    part = {**definitions["InputSpec"], "required": [], "title": "Keys of input"}
    task = {"type": "object", "title": "Keys of task"}
    properties = {**full["properties"], "input": {"$ref": "#/$defs/ZooInput"}, "task": task}
    return {
        "NodeSpec": {
            "if": {"required": ["model"], "properties": {"model": {"type": "string", "pattern": "^zoo:"}}},
            "then": {"$ref": "#/$defs/ZooNode"},
            "else": {"$ref": "#/$defs/Node"},
        },
        "Node": full,
        "ZooNode": {
            **full,
            "title": "Node with a network of the zoo",
            "properties": properties,
            "required": ["model"],
        },
        "ZooInput": part,
    }


Model = type[BaseModel] | TypeAdapter[Any] | dict[str, Any]

MESSAGES: dict[str, tuple[str, Model, str]] = {
    "result": (subjects.result("{group}", "{stream}"), RESULT, "The joined result of one frame."),
    "event": (subjects.event("{group}", "{stream}"), Event, "A change of a track; the broker keeps it for a while."),
    "eventsRequest": (subjects.events_after("{group}"), EventsRequest, "Requests events that the broker has kept."),
    "eventsAnswer": (subjects.events_after("{group}"), EventsAnswer, "Some of them, and where to read on."),
    "resultsRequest": (subjects.results_after("{group}"), ResultsRequest, "Requests results that the broker has kept."),
    "resultsAnswer": (subjects.results_after("{group}"), ResultsAnswer, "Some of them, and where to read on."),
    "history": (subjects.history("{by}"), HistoryEntry, "What happened and why; the broker keeps it for a while."),
    "historyRequest": (subjects.history_after(), HistoryRequest, "Requests entries that the broker has kept."),
    "historyAnswer": (subjects.history_after(), HistoryAnswer, "Some of them, and where to read on."),
    "output": (subjects.output("{group}", "{stream}", "{node}"), OUTPUT, "The output of one node for one frame."),
    "outputsWanted": (subjects.outputs_wanted("{group}"), OutputsWanted, "Requests outputs for six seconds."),
    "tracesWanted": (subjects.traces_wanted("{group}"), TracesWanted, "Requests traces of the next frames."),
    "trace": (subjects.trace("{group}", "{stream}"), FrameTrace, "What happened to a frame, while requested."),
    "work": (subjects.work("{device}"), WORK, "Images for nodes on one device; between parts of HAMS only."),
    "answer": (
        subjects.answer("{group}", "{stream}"),
        {"type": "array", "items": OUTPUT},
        "The outputs of all nodes that an agent serves; between parts of HAMS only.",
    ),
    "inferRequest": (subjects.infer("{group}"), InferRequest, "One encoded image for a group."),
    "inferAnswer": (subjects.infer("{group}"), InferAnswer, "Its joined result, or an error."),
    "pushRequest": (subjects.push("{group}", "{stream}"), PushRequest, "The next frame of a stream with source: push."),
    "pushAnswer": (subjects.push("{group}", "{stream}"), PushAnswer, "The frame's number, once there is room for it."),
    "picturesWanted": (
        subjects.pictures_wanted("{group}"),
        PicturesWanted,
        "Requests pictures for six seconds.",
    ),
    "picture": (
        subjects.picture("{group}", "{stream}"),
        FramePicture,
        "A delivered frame, while requested.",
    ),
    "previewWanted": (subjects.preview_wanted("{group}"), PreviewWanted, "Requests previews for six seconds."),
    "preview": (subjects.preview("{group}", "{stream}"), FramePreview, "A small picture with its result."),
    "streams": (subjects.pipeline_status(), PipelineView, "All streams and their frame ledgers."),
    "groups": (subjects.pipeline_groups(), GroupsView, "The deployed groups, as applications may know them."),
    "readCostRequest": (
        subjects.read_cost(),
        ReadCostRequest,
        "What does reading a video cost? Sent by schedulers.",
    ),
    "readCost": (subjects.read_cost(), ReadCost, "The CPU time of a frame, or an error."),
    "stillRequest": (subjects.still(), StillRequest, "One picture of a source. Sent by the page, for admins."),
    "still": (subjects.still(), Still, "The picture, or an error."),
    "pipelineLoad": (subjects.pipeline_load(), PipelineLoad, "The cost of the pipeline, once a second."),
    "heartbeat": (subjects.heartbeat("{device}"), Heartbeat, "The state of an agent, twice a second."),
}
SENT = {
    "eventsRequest",
    "resultsRequest",
    "historyRequest",
    "inferRequest",
    "pushRequest",
    "picturesWanted",
    "previewWanted",
    "outputsWanted",
    "readCostRequest",
    "stillRequest",
    "tracesWanted",
}
"""Messages that an application sends; it receives the others."""
ANSWERS = {
    "eventsAnswer": "eventsRequest",
    "resultsAnswer": "resultsRequest",
    "historyAnswer": "historyRequest",
    "inferAnswer": "inferRequest",
    "pushAnswer": "pushRequest",
    "readCost": "readCostRequest",
    "still": "stillRequest",
}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document."""
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for name, (address, model, summary) in MESSAGES.items():
        payload = model
        if not isinstance(model, dict):
            schema = model.json_schema if isinstance(model, TypeAdapter) else model.model_json_schema
            payload = schema(ref_template="#/components/schemas/{model}")
            schemas |= payload.pop("$defs", {})
        messages[name] = {"summary": summary, "contentType": "application/msgpack", "payload": payload}
        channel = channels.setdefault(
            ANSWERS.get(name, name),
            {
                "address": address,
                "parameters": {
                    p: {"description": p} for p in ("group", "stream", "node", "device", "by") if f"{{{p}}}" in address
                },
                "messages": {},
            },
        )
        channel["messages"][name] = {"$ref": f"#/components/messages/{name}"}
        if name in ANSWERS:
            operations[ANSWERS[name]]["reply"] = {
                "channel": {"$ref": f"#/channels/{ANSWERS[name]}"},
                "messages": [{"$ref": f"#/channels/{ANSWERS[name]}/messages/{name}"}],
            }
            continue
        operations[name] = {
            "action": "send" if name in SENT else "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "HAMS",
            "version": hams_shared.__version__,
            "description": "The messages of applications. They are msgpack; results are JSON where the group file has "
            "`results: json`. Messages above the broker's limit are sent in parts: see docs/messages.md.",
        },
        "defaultContentType": "application/msgpack",
        "servers": {"broker": {"host": "127.0.0.1:4222", "protocol": "nats"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def documents() -> dict[Path, str]:
    """Return each file and its contents."""
    return {
        ROOT / "services" / "hams_services" / "models" / "group.schema.json": json.dumps(
            group_schema(), indent=2, ensure_ascii=False
        )
        + "\n",
        HERE / "asyncapi.yaml": "# Generated by docs/schema/generate.py (make schema).\n"
        + yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120),
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
        print(path)
