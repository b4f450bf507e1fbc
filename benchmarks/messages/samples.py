"""Valid messages of every subject: those that travel while a group runs, and requests as people and parts send them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from benchmarks.messages.targets import DEVICE, GROUP, KEYS, NODE, SPARE, STREAM, own_keys
from hams_shared.bus.protocol import Message
from hams_shared.wire import subjects
from hams_shared.wire.codec import pack

if TYPE_CHECKING:
    from support.world.system import System

PER_SUBJECT = 40

Samples = dict[str, list[bytes]]


def group(system_light: dict[str, Any]) -> dict[str, Any]:
    """A group that uses what messages are about: a detector, two heads, tracks, events, a gallery; two streams."""
    find = {
        "model": "boxes",
        "input": {"size": [16, 16]},
        "task": {"type": "detection_output", "labels": {1: "thing"}},
        "track": {"confirm_hits": 1},
    }
    who = {
        "model": "person",
        "parent": "find",
        "input": {"size": [8, 8]},
        "task": {"type": "embedding", "gallery": {"threshold": 0.9}},
    }
    light = {**system_light["nodes"]["light"], "parent": "find"}
    stream = {"source": "push", "mode": "lossless"}
    return {
        "name": GROUP,
        "nodes": {"find": find, NODE: light, "who": who},
        "streams": {STREAM: stream, SPARE: stream},
        "results": {"keep": "1h"},
    }


def requests() -> dict[str, list[Any]]:
    """Valid requests that do not travel by themselves."""
    image = np.full((48, 64, 3), 80, np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    raw = {"image": image.tobytes(), "shape": [48, 64, 3]}
    stream = {"source": "push", "mode": "live"}
    images = [{"image": jpeg, "deadline_s": 2.0}, {**raw, "deadline_s": 2.0}]
    after = {"after": 0, "journal": "", "since_s": None}
    return {
        subjects.scheduler_view(): [{"matrix": True, "group": ""}, {"matrix": False, "group": GROUP}],
        subjects.measure_request(): [{"model": "", "device": ""}, {"model": "boxes", "device": DEVICE}],
        subjects.pipeline_status(): [{}], subjects.pipeline_groups(): [{}],
        subjects.read_cost(): [{"stream": stream}], subjects.still(): [{"stream": stream, "width": 640}],
        subjects.gallery(GROUP): [{"verb": "list"}, {"verb": "name", "identity": 1, "name": "x"}, {"verb": "forget"}],
        subjects.history_after(): [after, {**after, "since_s": 0.0}],
        subjects.results_after(GROUP): [
            {**after, "stream": "*"}, {**after, "stream": STREAM, "reader": "x", "dealt": 1, "resume": True},
        ],
        subjects.audit("deploy", "admin"): [{"version": 1, "id": "x", "at": 1.0, "actor": "a@b", "text": "changed"}],
        subjects.events_after(GROUP): [{**after, "stream": "*"}, {**after, "stream": STREAM}],
        subjects.outputs_wanted(GROUP): [{"node": "*", "stream": "*"}, {"node": NODE, "stream": STREAM}],
        subjects.traces_wanted(GROUP): [{"stream": "*", "count": 2}],
        subjects.pictures_wanted(GROUP): [{"stream": "*", "quality": 50}],
        subjects.preview_wanted(GROUP): [{"stream": STREAM, "fps": 5.0, "width": 320, "quality": 50}],
        subjects.infer(GROUP): images, subjects.push(GROUP, SPARE): images,
    }  # fmt: skip


async def collect(world: System) -> Samples:
    """Record what travels in `world`, whose group plays, until all subjects that speak by themselves have."""
    found: Samples = defaultdict(list)

    async def note(message: Message) -> None:
        if len(kept := found[message.subject]) < PER_SUBJECT:
            kept.append(message.data)

    tap = await world.bus.subscribe("hams.>", note, limit=100_000)
    for subject, messages in requests().items():
        for one in messages:
            found[subject].append(pack(one))
            if "wanted" in subject:
                await world.bus.publish(subject, pack(one))
    spoken = [of(GROUP, STREAM) for of in (subjects.result, subjects.answer, subjects.event, subjects.picture)]
    spoken += [subjects.output(GROUP, STREAM, NODE), subjects.pipeline_load()]
    await world.until(lambda: all(found[one] for one in spoken), what="messages")
    await world.later(3)
    await tap.unsubscribe()
    found[subjects.kept(GROUP, STREAM)] = found[subjects.result(GROUP, STREAM)]  # the broker sends them on as these
    for name, key in KEYS.items():
        bucket = world.server.buckets.get(subjects.bucket(name))
        values = [entry.value for entry in bucket.values.values() if entry.value] if bucket else []
        for one in (key, "other"):
            found[f"$KV.{subjects.bucket(name)}.{one}"] = values[:PER_SUBJECT]
    for name, key in own_keys().items():
        bucket = world.server.buckets.get(name)
        found[f"$KV.{name}.{key}"] = [e.value for e in bucket.values.values() if e.value] if bucket else []
    return {subject: [one for one in all_ if len(one) < 1 << 18] for subject, all_ in found.items()}
