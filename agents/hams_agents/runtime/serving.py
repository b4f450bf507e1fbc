"""One node on one device: images in, outputs and the children's crops out, in three steps.

:func:`prepare` makes the input tensor, :func:`infer` runs the network (in the device's thread), :func:`finish` decodes
and makes crops. All are blocking. An error of the network or the task becomes an output that carries it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace
from numpy.typing import NDArray

from hams_agents.backends.base import NO_FURTHER, Further
from hams_agents.runtime.crop_work import cut_crops, deferred_crops
from hams_agents.runtime.finite import refuse_not_finite
from hams_agents.runtime.further_values import FurtherValues, with_given
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.steps import Lap, StepClock, steps
from hams_agents.tasks import input as tensors
from hams_agents.tasks.base import Affine, Detected, Outputs
from hams_agents.tasks.crops import View, render
from hams_agents.tasks.input import IDENTITY, compose, scaling
from hams_agents.tasks.masks import decoded, encoded
from hams_agents.tasks.registry import describe
from hams_shared.errors import HamsError, InferenceError, TaskError, as_hams_error
from hams_shared.wire.frames import Given, Output, Pixels, Reduced, Work


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
    """Per image, over all pieces: input pixels → frame pixels; of a task whose boxes are in other ones, those."""
    further: Further = field(default_factory=lambda: NO_FURTHER)
    filled: list[tuple[int, int]] = field(default_factory=list)
    """Per image: width and height of the part of the input that is not padding."""
    outputs: Mapping[str, NDArray[np.generic]] | None = None
    error: HamsError | None = None
    timing: dict[str, float] = field(default_factory=dict)
    """By step, ms."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By step: CPU time of the threads that did it, s."""
    started: float = 0.0
    laps: list[Lap] | None = None
    """The steps so far, where a piece is of a traced frame."""

    @property
    def failed(self) -> int:
        """Pieces for which the inference failed."""
        return sum(isinstance(self.error or piece.error, InferenceError) for piece in self.pieces)

    def named(self, step: str) -> str:
        """Return, for people, a step with the group and node that it is of."""
        return "{} of {}/{}".format(step, *self.pieces[0].served.key)


def prepare(batch: Batch) -> None:
    """Make the input tensor."""
    batch.started = time.perf_counter()
    batch.laps = [] if any(piece.work.traceparent for piece in batch.pieces) else None
    clock = StepClock(batch.timing, batch.cpu_s, batch.laps)
    if any(piece.work.deferred is not None or piece.work.objects is not None for piece in batch.pieces):
        batch.pieces = [_cut_out(piece) for piece in batch.pieces]
        clock.lap("crop")
    further = batch.pieces[0].served.further
    if further is not None and further.needs:
        batch.pieces = [_with_parents_part(piece, further) for piece in batch.pieces]
    if not any(piece.work.count for piece in batch.pieces):
        return
    try:
        images, to_work, shapes = zip(*(one for piece in batch.pieces for one in _shown(piece.work)), strict=True)
        takes = batch.pieces[0].served.takes
        batch.tensor, to_image = tensors.prepare(images, takes, shapes)
        batch.to_frame = [compose(outer, inner) for outer, inner in zip(to_work, to_image, strict=True)]
        works = [piece.work for piece in batch.pieces]
        parts = [None if work.filled is None else work.filled[n] for work in works for n in range(work.count)]
        batch.filled = [tensors.filled(takes, size, part) for size, part in zip(shapes, parts, strict=True)]
        if further is not None:
            batch.further, batch.to_frame = further.feed(works, batch.filled, batch.to_frame)
    except Exception as error:
        batch.error = as_hams_error(error)
    clock.lap("prepare")


def _shown(work: Work) -> list[tuple[Pixels, Affine, tuple[int, int]]]:
    """Return the images that the input is prepared from, each with its map to the frame, and the width and height of
    what it shows."""
    if work.reduced is None:
        size = (work.images.shape[2], work.images.shape[1])
        return [(image, to_frame, size) for image, to_frame in zip(work.images, work.to_frame, strict=True)]
    return [(work.reduced.pixels, _onto_frame(work, work.reduced), work.frame_size)]


def _onto_frame(work: Work, reduced: Reduced) -> Affine:
    height, width = reduced.pixels.shape[:2]
    return scaling(work.frame_size[0] / width, work.frame_size[1] / height)


def _cut_out(piece: Piece) -> Piece:
    """Take deferred crops from the frame; a frame that was dropped meanwhile is the error of this piece alone."""
    work = piece.work
    try:
        if work.objects is not None:
            work = _located(piece.served, work, work.objects)
        deferred = work.deferred
        if deferred is None:
            return piece
        masks = deferred.masks or [None] * len(deferred.filled)
        parts = zip(deferred.filled, work.to_frame, deferred.corners, masks, strict=True)
        views = [View(filled, to_frame, corners, decoded(mask)) for filled, to_frame, corners, mask in parts]
        images = render(work.images[0], None, views, deferred.size, deferred.pad)
        work.check()
    except Exception as error:
        return _without_images(piece, as_hams_error(error))
    there = replace(work, images=images, deferred=None, pointer=None, view=None, filled=deferred.filled)
    return replaced(piece, work=there)


def _without_images(piece: Piece, error: HamsError) -> Piece:
    """Return a piece that cannot be done, while others of its batch are."""
    work = piece.work
    nothing = replace(work, images=work.images[:0], to_frame=work.to_frame[:0], sources=[], given={}, filled=None)
    return replaced(piece, work=replace(nothing, objects=None, deferred=None, pointer=None, view=None), error=error)


def _with_parents_part(piece: Piece, further: FurtherValues) -> Piece:
    """Return a piece; without what the parent should have given, it alone is an error."""
    refusal = further.refusal(piece.work) if piece.error is None else None
    return piece if refusal is None else _without_images(piece, refusal)


def _located(served: ServedNode, work: Work, objects: list[Given]) -> Work:
    """Return the work with the places of its crops, where the pipeline chose the objects."""
    found = [
        Detected(
            one.box,
            one.score,
            one.label,
            None if one.points is None else np.array(one.points, np.float64),
            mask=decoded(one.mask) if served.spec.crop.mask else None,
        )
        for one in objects
    ]
    there = deferred_crops(work, work.node, served.spec.crop, served.takes, found)
    if served.further is not None:
        there = with_given(there, served.spec, [found])
    return replace(there, sources=[work.sources[index] for index in there.sources], objects=None)


def infer(batch: Batch, *, alone: bool = True) -> None:
    """Run the network. Of several pieces that fail together each is run alone: one may be the others' misfortune."""
    if batch.tensor is None or batch.error is not None:
        return
    clock = StepClock(batch.timing, batch.cpu_s, batch.laps)
    served = batch.pieces[0].served
    try:
        batch.outputs = served.network.infer(batch.tensor, further=batch.further, alone=alone)
    except Exception as error:
        batch.error = _failure_of(served, error)
        if sum(piece.work.count > 0 for piece in batch.pieces) > 1:
            _infer_alone(batch, batch.tensor, batch.error, alone=alone)
    batch.tensor, batch.further = None, NO_FURTHER
    clock.lap("infer")


def _failure_of(served: ServedNode, error: Exception) -> InferenceError:
    return InferenceError(f"node {served.node} failed on {served.device}: {as_hams_error(error).text}")


def _infer_alone(batch: Batch, tensor: NDArray[np.generic], error: HamsError, *, alone: bool) -> None:
    """Run each piece on its own; the batch fails with `error` only if all do. `alone`: no other lane computes."""
    served, first = batch.pieces[0].served, 0
    results: list[Mapping[str, NDArray[np.generic]] | InferenceError | None] = []
    for piece in batch.pieces:
        last = first + piece.work.count
        further = {name: value[first:last] for name, value in batch.further.items()}
        try:
            found = served.network.infer(tensor[first:last], further=further, alone=alone) if last > first else None
            results.append(found)
        except Exception as again:
            results.append(_failure_of(served, again))
        first = last
    like = next((one for one in results if isinstance(one, Mapping)), None)
    if like is None:
        return
    batch.error = None
    pieces, rows = [], []
    for piece, result in zip(batch.pieces, results, strict=True):
        if isinstance(result, InferenceError):
            piece = replaced(piece, error=result)
        pieces.append(piece)
        if isinstance(result, Mapping):
            rows.append(result)
        elif piece.work.count:  # never read: the piece is an error
            rows.append({name: np.repeat(value[:1], piece.work.count, axis=0) for name, value in like.items()})
    batch.pieces = pieces
    batch.outputs = {name: np.concatenate([row[name] for row in rows]) for name in like}


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
    laps = [*batch.laps] if batch.laps is not None and work.traceparent else None
    clock = StepClock(timing, batch.cpu_s, laps)
    items: list[Any] = []
    children: list[tuple[str, Work]] = []
    if batch.outputs is None or first == last:
        if served.finds_objects:
            children = _crops(served, work, [], clock)
    else:
        whole = len(batch.pieces) == 1
        outputs = batch.outputs if whole else {name: value[first:last] for name, value in batch.outputs.items()}
        to_frame = batch.to_frame[first:last]
        refuse_not_finite(served.node, served.device, served.checked, outputs)
        if served.detector is not None:
            found = served.detector.detect(outputs, to_frame, work.frame_size)
            clock.lap("decode")
            children = _crops(served, work, found, clock, outputs)
            items = [[plain(one, served.threshold) for one in objects] for objects in found]
        elif served.describer is not None:
            items = describe(served.describer, outputs, to_frame, batch.filled[first:last])
            clock.lap("decode")
            if served.finds_objects:
                children = _crops(served, work, [item["objects"] for item in items], clock, outputs, items)
                items = [{**item, "objects": [plain(one) for one in item["objects"]]} for item in items]
        if len(items) != last - first:
            raise TaskError(f"node {served.node}: the task gave {len(items)} answers for {last - first} images")
    work.check()
    trace = UNSET if laps is None else steps(work.traceparent, piece.since, batch.started, laps)
    output = Output(work.id, served.node, served.device, items, work.sources, timing, trace=trace)
    return Finished(piece.visit, output, children)


def plain(one: Detected, threshold: float = 0.0) -> dict[str, Any]:
    """Return an object as it goes on the wire; those below `threshold` are for the tracker only."""
    item: dict[str, Any] = {
        "box": [round(v, 2) for v in one.box],
        "score": round(one.score, 4),
        "label": one.label,
    }
    if one.points is not None:
        item["points"] = np.round(one.points, 2).tolist()
    if one.visibility is not None:
        item["visibility"] = np.round(one.visibility, 3).tolist()
    if one.skeleton is not None:
        item["skeleton"] = [list(pair) for pair in one.skeleton]
    if one.angle is not None:
        item["angle"] = round(one.angle, 2)
    if one.mask is not None:
        item["mask"] = encoded(one.mask)
    if one.score < threshold:
        item["low"] = True
    return item


def _crops(
    served: ServedNode,
    work: Work,
    found: list[list[Detected]],
    clock: StepClock,
    outputs: Outputs | None = None,
    items: Sequence[Any] = (),
) -> list[tuple[str, Work]]:
    """All crops of each child, even when there are none, so that the join knows what it waits for.

    A device that can map the frame takes its crops from it: no pixels are sent, and the detector's device, mostly the
    busiest, is spared. Crops of crops are cut here.
    """
    children: list[tuple[str, Work]] = []
    spec = served.plan.group.spec
    whole = len(found) == 1 and any(found) and np.array_equal(work.to_frame[0], IDENTITY)
    for child in served.children:
        device = served.plan.device_of(child, work.route)
        crop, takes = spec.nodes[child].crop, served.plan.input_on(child, device)
        here = device == served.device
        if whole and (here or (work.pointer is not None and device in work.peers)):
            child_work = deferred_crops(work, child, crop, takes, found[0])
        else:
            child_work = cut_crops(work, child, crop, takes, found)
        if spec.nodes[child].inputs:
            child_work = with_given(child_work, spec.nodes[child], found, outputs, items)
        children.append((device, child_work))
    clock.lap("crop")
    return children


def alike(pieces: list[Piece]) -> list[Batch]:
    """Group pieces by the assignment they belong to."""
    batches: list[Batch] = []
    for piece in pieces:
        if batches and batches[-1].pieces[0].served is piece.served:
            batches[-1].pieces.append(piece)
        else:
            batches.append(Batch([piece]))
    return batches
