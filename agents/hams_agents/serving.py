"""One node on one device: images in, outputs and the children's crops out. Blocking; runs in the device's thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from hams_agents.backends.base import Network
from hams_agents.tasks.base import Detected, Task
from hams_agents.tasks.crops import cut
from hams_agents.tasks.geometry import compose
from hams_agents.tasks.input import prepare
from hams_agents.tasks.registry import is_detection
from hams_shared import subjects
from hams_shared.errors import HamsError, TaskError, as_hams_error
from hams_shared.frames import Output, Work
from hams_shared.group_spec import NodeSpec
from hams_shared.messages import Plan
from hams_shared.routing import route

Outgoing = tuple[str, bytes]
"""Subject and payload."""


@dataclass(frozen=True)
class ServedNode:
    """A node that is loaded and ready."""

    device: str
    plan: Plan
    node: str
    network: Network
    task: Task

    @property
    def spec(self) -> NodeSpec:
        """The node's part of the group file."""
        return self.plan.group.spec.nodes[self.node]


def failure(work: Work, device: str, error: HamsError) -> Outgoing:
    """The output that says why `work` was not done."""
    output = Output(id=work.id, node=work.node, device=device, items=[], error=error.to_wire())
    return subjects.output(work.id.group, work.id.stream, work.node), output.pack()


def run(served: ServedNode, work: Work, queued_ms: float) -> list[Outgoing]:
    """Do one piece of work and return what to publish: children's crops first, since others wait for them.

    An error of the network or the task becomes an output that carries it; nothing is raised.
    """
    try:
        return _run(served, work, queued_ms)
    except Exception as error:
        return [failure(work, served.device, as_hams_error(error))]


def _run(served: ServedNode, work: Work, queued_ms: float) -> list[Outgoing]:
    timing = {"queue": queued_ms}
    clock = _Clock(timing)
    images = list(work.images)
    items: list[Any] = []
    crops: list[Outgoing] = []
    if not images:
        if is_detection(served.task):
            crops = _crops(served, work, [], timing, clock)
    else:
        batch, to_image = prepare(images, served.spec.input)
        to_frame = [compose(work.to_frame[i], to_image[i]) for i in range(len(images))]
        clock.lap("prepare")
        outputs = served.network.infer(batch)
        clock.lap("infer")
        if is_detection(served.task):
            found = served.task.detect(outputs, to_frame, work.frame_size)
            clock.lap("decode")
            crops = _crops(served, work, found, timing, clock)
            items = [[_plain(one) for one in objects] for objects in found]
        else:
            items = served.task.describe(outputs, to_frame)
            clock.lap("decode")
        if len(items) != len(images):
            raise TaskError(f"node {served.node}: the task gave {len(items)} answers for {len(images)} images")
    output = Output(
        id=work.id, node=served.node, device=served.device, items=items, sources=work.sources, timing=timing
    )
    return [*crops, (subjects.output(work.id.group, work.id.stream, served.node), output.pack())]


class _Clock:
    """Splits the time spent into named laps, ms."""

    def __init__(self, timing: dict[str, float]) -> None:
        self._timing = timing
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._timing[name] = round((now - self._last) * 1e3, 3)
        self._last = now


def _plain(one: Detected) -> dict[str, Any]:
    item: dict[str, Any] = {
        "box": [round(v, 2) for v in one.box],
        "score": round(one.score, 4),
        "label": one.label,
    }
    if one.points is not None:
        item["points"] = np.round(one.points, 2).tolist()
    return item


def _crops(
    served: ServedNode, work: Work, found: list[list[Detected]], timing: dict[str, float], clock: _Clock
) -> list[Outgoing]:
    """One message per child with all its crops, even when there are none, so that the join knows what it waits for."""
    messages: list[Outgoing] = []
    spec = served.plan.group.spec
    for child in spec.children(served.node):
        child_spec = spec.nodes[child]
        width, height = child_spec.input.size
        pixels: list[Any] = []
        transforms: list[Any] = []
        sources: list[int] = []
        first = 0
        for image, to_frame, objects in zip(work.images, work.to_frame, found, strict=True) if found else ():
            cuts, maps, kept = cut(image, to_frame, objects, child_spec.crop, (width, height))
            pixels.append(cuts)
            transforms.append(maps)
            sources += [first + int(index) for index in kept]
            first += len(objects)
        child_work = Work(
            id=work.id,
            node=child,
            images=np.concatenate(pixels) if pixels else np.empty((0, height, width, 3), np.uint8),
            to_frame=np.concatenate(transforms) if transforms else np.empty((0, 2, 3)),
            sources=sources,
            frame_size=work.frame_size,
        )
        device = route(served.plan.shares[child], work.id.frame, work.id.attempt)
        messages.append((subjects.work(device), child_work.pack()))
    clock.lap("crop")
    return messages
