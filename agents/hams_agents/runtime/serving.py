"""One node on one device: images in, outputs and the children's crops out, in three steps.

:func:`prepare` makes the input tensor, :func:`infer` runs the network (in the device's thread), :func:`finish` decodes
and makes crops. All are blocking. An error of the network or the task becomes an output that carries it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import cached_property
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from hams_agents.backends.base import Network
from hams_agents.runtime.fair_queue import Terms
from hams_agents.tasks import input as tensors
from hams_agents.tasks.base import Affine, DescriptionTask, Detected, DetectionTask, Task
from hams_agents.tasks.crops import View, cut, maps_of, render, views_of
from hams_agents.tasks.input import IDENTITY, compose
from hams_agents.tasks.registry import gives_objects, is_detection
from hams_shared.errors import HamsError, InferenceError, MessageError, TaskError, as_hams_error
from hams_shared.group.node_spec import CropSpec, InputSpec, NodeSpec
from hams_shared.wire.frames import DeferredCrops, Given, Output, Pixels, Work, onto_frame
from hams_shared.wire.messages.plan import Plan


@dataclass(frozen=True)
class ServedNode:
    """A node that is loaded and ready."""

    device: str
    plan: Plan
    node: str
    network: Network
    task: Task
    threshold: float = 0.0
    """The task's own, where its detections from a lower one on are given to the tracker."""

    @property
    def spec(self) -> NodeSpec:
        """The node's part of the group file."""
        return self.plan.group.spec.nodes[self.node]

    @cached_property
    def key(self) -> tuple[str, str]:
        """Its group and node."""
        return self.plan.group.spec.name, self.node

    @cached_property
    def detector(self) -> DetectionTask | None:
        """Its task, where that finds objects."""
        return self.task if is_detection(self.task) else None

    @cached_property
    def describer(self) -> DescriptionTask | None:
        """Its task, where that describes images."""
        return None if is_detection(self.task) else self.task

    @cached_property
    def finds_objects(self) -> bool:
        """Whether its outputs hold objects, so that it may have children."""
        return gives_objects(self.task)

    @cached_property
    def children(self) -> tuple[str, ...]:
        """The children that are given work here; the pipeline gives the others theirs."""
        spec = self.plan.group.spec
        return tuple(child for child in spec.children(self.node) if child not in spec.chosen)

    @cached_property
    def takes(self) -> InputSpec:
        """The input of its network."""
        return self.plan.input_on(self.node, self.device)

    @cached_property
    def terms(self) -> Terms:
        """The terms on which its work waits.

        A turn has the pieces of work that the group's frames bring here, per frame, times what its frames weigh. A
        frame brings one piece to each node, however many crops it has.
        """
        spec = self.plan.group.spec
        here = sum(self.plan.share(node, self.device) for node in self.plan.shares)
        return Terms(
            priority=spec.priority,
            pieces=here * (spec.target_fps or 1.0) * spec.share,
            depth=spec.depth(self.node),
            joins=self.network.dynamic_batch,
            wait_s=self.spec.max_wait_ms / 1e3,
        )


def failure(work: Work, device: str, error: HamsError) -> Output:
    """Return the output that carries `error` in place of the work's result."""
    return Output(id=work.id, node=work.node, device=device, items=[], error=error.to_wire())


@dataclass(eq=False)
class Visit:
    """A frame's stay on the device: from the message that brought it to the answer about all nodes served here."""

    left: int = 0
    """Pieces of its work that are not done."""
    answer_to: str = ""
    """The mailbox that the answer is sent to; empty: by the broker."""
    outputs: list[Output] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """One node's work for one frame, as it waits."""

    served: ServedNode
    work: Work
    since: float
    """When it arrived, s (perf_counter)."""
    visit: Visit = field(default_factory=Visit)
    error: HamsError | None = None
    """Why it alone, of its batch, cannot be done."""


@dataclass(frozen=True)
class Finished:
    """What a piece of work gave."""

    visit: Visit
    output: Output
    children: list[tuple[str, Work]] = field(default_factory=list)
    """Work for the node's children, and the device of each."""


@dataclass
class Batch:
    """Pieces of one node that are run together."""

    pieces: list[Piece]
    tensor: NDArray[np.generic] | None = None
    to_frame: list[Affine] = field(default_factory=list)
    """Per image, over all pieces: input pixels → frame pixels."""
    outputs: Mapping[str, NDArray[np.generic]] | None = None
    error: HamsError | None = None
    timing: dict[str, float] = field(default_factory=dict)
    """By step, ms."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By step: CPU time of the threads that did it, s."""
    started: float = 0.0


def prepare(batch: Batch) -> None:
    """Make the input tensor."""
    batch.started = time.perf_counter()
    clock = _Clock(batch.timing, batch.cpu_s)
    if any(piece.work.deferred is not None or piece.work.objects is not None for piece in batch.pieces):
        batch.pieces = [_cut_out(piece) for piece in batch.pieces]
        clock.lap("crop")
    if not any(piece.work.count for piece in batch.pieces):
        return
    try:
        images, to_work, shapes = zip(*(one for piece in batch.pieces for one in _shown(piece.work)), strict=True)
        batch.tensor, to_image = tensors.prepare(images, batch.pieces[0].served.takes, shapes)
        batch.to_frame = [compose(outer, inner) for outer, inner in zip(to_work, to_image, strict=True)]
    except Exception as error:
        batch.error = as_hams_error(error)
    clock.lap("prepare")


def _shown(work: Work) -> list[tuple[Pixels, Affine, tuple[int, int]]]:
    """Return the images that the input is prepared from, each with its map to the frame, and the width and height of
    what it shows."""
    if work.reduced is None:
        size = (work.images.shape[2], work.images.shape[1])
        return [(image, to_frame, size) for image, to_frame in zip(work.images, work.to_frame, strict=True)]
    return [(work.reduced.pixels, onto_frame(work.reduced.pixels.shape, work.frame_size), work.frame_size)]


def _cut_out(piece: Piece) -> Piece:
    """Take deferred crops from the frame; a frame that was dropped meanwhile is the error of this piece alone."""
    work = piece.work if piece.work.objects is None else _located(piece.served, piece.work, piece.work.objects)
    deferred = work.deferred
    if deferred is None:
        return piece
    parts = zip(deferred.filled, work.to_frame, deferred.corners, strict=True)
    try:
        images = render(work.images[0], None, [View(*part) for part in parts], deferred.size, deferred.pad)
        work.check()
    except Exception as error:
        nothing = replace(work, images=work.images[:0], to_frame=work.to_frame[:0], sources=[])
        return replaced(
            piece, work=replace(nothing, deferred=None, pointer=None, view=None), error=as_hams_error(error)
        )
    return replaced(piece, work=replace(work, images=images, deferred=None, pointer=None, view=None))


def _located(served: ServedNode, work: Work, objects: list[Given]) -> Work:
    """Return the work with the places of its crops, where the pipeline chose the objects."""
    found = [
        Detected(one.box, one.score, one.label, None if one.points is None else np.array(one.points, np.float64))
        for one in objects
    ]
    there = _deferred(work, work.node, served.spec.crop, served.takes, found)
    return replace(there, sources=[work.sources[index] for index in there.sources], objects=None)


def infer(batch: Batch, *, alone: bool = True) -> None:
    """Run the network."""
    if batch.tensor is None or batch.error is not None:
        return
    clock = _Clock(batch.timing, batch.cpu_s)
    served = batch.pieces[0].served
    try:
        batch.outputs = served.network.infer(batch.tensor, alone=alone)
    except Exception as error:
        batch.error = InferenceError(f"node {served.node} failed on {served.device}: {as_hams_error(error).text}")
    batch.tensor = None
    clock.lap("infer")


def failures(batch: Batch, error: HamsError) -> list[Finished]:
    """Return outputs that carry `error` for the whole batch."""
    return [Finished(piece.visit, failure(piece.work, piece.served.device, error)) for piece in batch.pieces]


def finish(batch: Batch) -> list[Finished]:
    """Decode each piece's part and return what it gave."""
    if batch.error is not None:
        return failures(batch, batch.error)
    finished: list[Finished] = []
    first = 0
    for piece in batch.pieces:
        last = first + piece.work.count
        try:
            if piece.error is not None:
                raise piece.error
            finished.append(_finish(piece, batch, first, last))
        except Exception as error:
            finished.append(Finished(piece.visit, failure(piece.work, piece.served.device, as_hams_error(error))))
        first = last
    return finished


def _finish(piece: Piece, batch: Batch, first: int, last: int) -> Finished:
    served, work = piece.served, piece.work
    timing = {"queue": round((batch.started - piece.since) * 1e3, 3), **batch.timing}
    clock = _Clock(timing, batch.cpu_s)
    items: list[Any] = []
    children: list[tuple[str, Work]] = []
    if batch.outputs is None or first == last:
        if served.finds_objects:
            children = _crops(served, work, [], clock)
    else:
        whole = len(batch.pieces) == 1
        outputs = batch.outputs if whole else {name: value[first:last] for name, value in batch.outputs.items()}
        to_frame = batch.to_frame[first:last]
        if served.detector is not None:
            found = served.detector.detect(outputs, to_frame, work.frame_size)
            clock.lap("decode")
            children = _crops(served, work, found, clock)
            items = [[plain(one, served.threshold) for one in objects] for objects in found]
        elif served.describer is not None:
            items = served.describer.describe(outputs, to_frame)
            clock.lap("decode")
            if served.finds_objects:
                children = _crops(served, work, [item["objects"] for item in items], clock)
                items = [{**item, "objects": [plain(one) for one in item["objects"]]} for item in items]
        if len(items) != last - first:
            raise TaskError(f"node {served.node}: the task gave {len(items)} answers for {last - first} images")
    work.check()
    output = Output(
        id=work.id, node=served.node, device=served.device, items=items, sources=work.sources, timing=timing
    )
    return Finished(piece.visit, output, children)


class _Clock:
    """Splits the time spent into named laps, ms, and the CPU time of this thread, s."""

    def __init__(self, timing: dict[str, float], cpu_s: dict[str, float]) -> None:
        self._timing = timing
        self._cpu_s = cpu_s
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()

    def lap(self, name: str) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        self._timing[name] = round(self._timing.get(name, 0.0) + (now - self._last) * 1e3, 3)
        self._cpu_s[name] = self._cpu_s.get(name, 0.0) + cpu - self._last_cpu
        self._last, self._last_cpu = now, cpu


def plain(one: Detected, threshold: float = 0.0) -> dict[str, Any]:
    """Return an object as it goes on the wire; those below `threshold` are for the tracker only."""
    item: dict[str, Any] = {
        "box": [round(v, 2) for v in one.box],
        "score": round(one.score, 4),
        "label": one.label,
    }
    if one.points is not None:
        item["points"] = np.round(one.points, 2).tolist()
    if one.score < threshold:
        item["low"] = True
    return item


def _crops(served: ServedNode, work: Work, found: list[list[Detected]], clock: _Clock) -> list[tuple[str, Work]]:
    """All crops of each child, even when there are none, so that the join knows what it waits for.

    A device that can map the frame takes its crops from it: no pixels are sent, and the detector's device, mostly the
    busiest, is spared. Crops of crops are cut here.
    """
    children: list[tuple[str, Work]] = []
    spec = served.plan.group.spec
    whole = len(found) == 1 and any(found) and np.array_equal(work.to_frame[0], IDENTITY)
    for child in served.children:
        device = _device(served.plan, child, work.route)
        crop, takes = spec.nodes[child].crop, served.plan.input_on(child, device)
        here = device == served.device
        if whole and (here or (work.pointer is not None and device in work.peers)):
            child_work = _deferred(work, child, crop, takes, found[0])
        else:
            child_work = _cut(work, child, crop, takes, found)
        children.append((device, child_work))
    clock.lap("crop")
    return children


def _pad(takes: InputSpec) -> int | None:
    """The value of pixels that a crop leaves empty; None: it is stretched and leaves none."""
    return takes.pad if takes.fit == "letterbox" else None


def _deferred(work: Work, child: str, crop: CropSpec, takes: InputSpec, objects: list[Detected]) -> Work:
    """Return work for a device that can map the frame: where its crops are."""
    pad = _pad(takes)
    height, width = work.images.shape[1:3]
    views, kept = views_of((height, width), None, objects, crop, takes.size, pad)
    deferred = DeferredCrops(takes.size, pad or 0, [view.size for view in views], [view.corners for view in views])
    return replace(work, node=child, to_frame=maps_of(views), sources=kept, deferred=deferred, reduced=None)


def _cut(work: Work, child: str, crop: CropSpec, takes: InputSpec, found: list[list[Detected]]) -> Work:
    """Return work with the crops themselves."""
    width, height = takes.size
    pixels: list[Any] = []
    transforms: list[Any] = []
    sources: list[int] = []
    first = 0
    for image, to_frame, objects in zip(work.images, work.to_frame, found, strict=True) if found else ():
        crops, maps, kept = cut(image, to_frame, objects, crop, takes.size, _pad(takes))
        pixels.append(crops)
        transforms.append(maps)
        sources += [first + index for index in kept]
        first += len(objects)
    return replace(
        work,
        node=child,
        images=np.concatenate(pixels) if pixels else np.empty((0, height, width, 3), np.uint8),
        to_frame=np.concatenate(transforms) if transforms else np.empty((0, 2, 3)),
        sources=sources,
        pointer=None,
        view=None,
        reduced=None,
    )


def _device(plan: Plan, node: str, route: Mapping[str, str]) -> str:
    """Return the device that does `node`'s part of a frame. Raises MessageError when `route` does not fit the plan."""
    places = plan.shares[node]
    if len(places) == 1:
        return next(iter(places))
    device = route.get(node, "")
    if device not in places:
        raise MessageError(f"the frame's route has no device of the plan for node {node}")
    return device
