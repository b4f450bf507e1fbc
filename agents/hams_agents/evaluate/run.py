"""Carries out evaluation requests; see :mod:`hams_agents.evaluate.requests`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hams_agents.backends.base import Backend, ModelFile, Network
from hams_agents.backends.further import examples, tensor_specs
from hams_agents.backends.network import noise
from hams_agents.evaluate.requests import Collect, Decode, ModelAt, Tensors, UsedOutputs
from hams_agents.evaluate.samples import Sample, Samples, Writer
from hams_agents.profiling.measurement import SamplerLimits, profile
from hams_agents.runtime.further_values import FurtherValues, in_image_pixels
from hams_agents.runtime.serving import plain
from hams_agents.tasks import input as tensors
from hams_agents.tasks.base import Affine, Detected, Outputs, Reads, Task
from hams_agents.tasks.crops import render, views_of
from hams_agents.tasks.input import IDENTITY, Pixels, compose, inside, invert
from hams_agents.tasks.registry import (
    build_task,
    describe,
    gives_objects,
    in_full,
    is_detection,
    used_outputs,
    with_lower_threshold,
)
from hams_shared.errors import BadInputError, HamsError
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import FrameId, Work

ROUNDS = 3
"""How often each network is timed."""
SHORT = SamplerLimits(min_s=0.2, max_s=0.8)


def decode(request: Decode, backend: Backend) -> dict[str, Any]:
    """Run a node on samples with each model. An error of one model is its result; the others have theirs."""
    samples = Samples(Path(request.samples))
    names = request.names or tuple(samples.names)
    task, threshold = with_lower_threshold(request.node.task, request.margin)
    spec = request.node.model_copy(update={"task": in_full(task)})
    results: list[dict[str, Any]] = []
    timed: list[tuple[dict[str, Any], _Node]] = []
    for at in request.models:
        try:
            node = _Node.load(backend, request.name, at, spec)
            result: dict[str, Any] = {
                "items": [node.predict(samples.read(name)) for name in names],
                "threshold": threshold,
            }
            timed.append((result, node))
        except HamsError as error:
            result = {"error": error.to_wire()}
        results.append(result)
    # In turns, so that disturbances of the machine meet all models; the best round is the least disturbed.
    for _ in range(ROUNDS if request.time else 0):
        for result, node in timed:
            result["fps"] = max(result.get("fps", 0.0), profile(node.network, node.file, limits=SHORT).fps)
    return {"results": results}


def write_tensors(request: Tensors) -> tuple[int, int]:
    """Write input tensors, one sample after another, since the file may be larger than memory.

    Returns width and height of the part, from the top left, that all images together fill.
    """
    samples, spec = Samples(Path(request.samples)), request.node.input
    names = request.names or tuple(samples.names)
    element = np.float32 if spec.dtype == "f32" else np.uint8
    array = np.lib.format.open_memmap(request.out, "w+", element, spec.shape(len(names)))
    with Path(request.out).open("r+b") as file:  # a full disk is an error here, but a crash later
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    across = down = 0
    for index, name in enumerate(names):
        image = samples.read(name).image
        array[index : index + 1] = tensors.prepare([image], spec)[0]
        height, width = image.shape[:2]
        filled = inside(width, height, spec.size) if spec.fit == "letterbox" else spec.size
        across, down = max(across, filled[0]), max(down, filled[1])
    array.flush()
    return across, down


def collect(request: Collect, backend: Backend) -> dict[str, int]:
    """Run a group on frames and write the input images of its nodes; return the number of samples by node."""
    group = request.group
    loaded = _parents(request, backend)
    frames = Samples(Path(request.frames))
    writers = {node: Writer(Path(request.out) / node, request.limit) for node in group.nodes}
    for name in frames.names:
        if all(writer.full for writer in writers.values()):
            break
        frame = frames.read(name)
        height, width = frame.image.shape[:2]
        todo = [_Input(group.root, frame.image, IDENTITY, (width, height))]
        while todo:
            node, image, to_frame, (width, height) = todo.pop()
            shown = image[:height, :width]
            writers[node].add(shown, to_frame, frame.frame_size)
            if node in loaded:
                found = loaded[node].objects(shown, to_frame, frame.frame_size)
                todo += _crops(group, node, image, to_frame, found)
    return {node: writer.close() for node, writer in writers.items()}


def _parents(request: Collect, backend: Backend) -> dict[str, _Node]:
    """Load the nodes that have children: only these run."""
    group = request.group
    absent = [node for node in group.nodes if node not in request.models]
    if absent:
        raise BadInputError(f"no network is given for {', '.join(absent)}")
    loaded: dict[str, _Node] = {}
    for node in (n for n in group.nodes if group.children(n)):
        spec = group.nodes[node]
        loaded[node] = _Node.load(backend, node, request.models[node], spec)
        if not gives_objects(loaded[node].task):
            raise BadInputError(f"node {node} has children, but its task {spec.task.type} finds no objects for them")
    return loaded


def used_outputs_of(request: UsedOutputs, backend: Backend) -> Reads:
    """Return which outputs of the network the node's task uses."""
    node = _Node.load(backend, request.name, request.model, request.node)
    return used_outputs(node.task, node.network.infer(noise(node.file, 1), further=examples(node.file, 1)))


@dataclass(frozen=True)
class _Node:
    """A network with the task that decodes its outputs."""

    name: str
    file: ModelFile
    network: Network
    task: Task
    input: InputSpec
    further: FurtherValues | None

    @classmethod
    def load(cls, backend: Backend, name: str, at: ModelAt, spec: NodeSpec) -> _Node:
        """Load it. Raises ModelError and TaskError."""
        given = at.input or spec.input
        file = ModelFile(name, at.digest, Path(at.path), given.shape(), given.dtype, further=tensor_specs(at.further))
        network = backend.load(file)
        task = build_task(spec.task, spec.input, network.metadata, in_image=in_image_pixels(spec.inputs))
        values = FurtherValues(at.further, spec.inputs, given, detects=is_detection(task)) if at.further else None
        return cls(name, file, network, task, given, values)

    def predict(self, sample: Sample) -> Any:
        """Return the node's predictions for one image, in plain values."""
        outputs, to = self._infer(sample.image, sample.to_frame, sample.frame_size)
        if is_detection(self.task):
            return [plain(one) for one in self.task.detect(outputs, to, sample.frame_size)[0]]
        found = self._describe(sample.image, outputs, to)
        return {**found, "objects": [plain(one) for one in found["objects"]]} if "objects" in found else found

    def objects(self, image: Pixels, to_frame: Affine, frame_size: tuple[int, int]) -> Sequence[Detected]:
        """Return the objects it finds, for its children."""
        outputs, to = self._infer(image, to_frame, frame_size)
        if is_detection(self.task):
            return self.task.detect(outputs, to, frame_size)[0]
        found: list[Detected] = self._describe(image, outputs, to)["objects"]
        return found

    def _describe(self, image: Pixels, outputs: Outputs, to: list[Affine]) -> dict[str, Any]:
        task: Any = self.task
        return describe(task, outputs, to, [self._filled(image)])[0]

    def _filled(self, image: Pixels) -> tuple[int, int]:
        return tensors.filled(self.input, (image.shape[1], image.shape[0]))

    def _infer(self, image: Pixels, to_frame: Affine, size: tuple[int, int]) -> tuple[Outputs, list[Affine]]:
        tensor, (to_image,) = tensors.prepare([image], self.input)
        to = [compose(to_frame, to_image)]
        if self.further is None:
            return self.network.infer(tensor), to
        work = Work(FrameId(self.name, self.name, 0, 0, 0, 0.0), self.name, image[None], to_frame[None], [0], size)
        if (refusal := self.further.refusal(work)) is not None:
            raise refusal
        values, to = self.further.feed([work], [self._filled(image)], to)
        return self.network.infer(tensor, further=values), to


class _Input(NamedTuple):
    """An input image of a node."""

    node: str
    image: Pixels
    to_frame: Affine
    filled: tuple[int, int]
    """Width and height of the part that is not padding."""


def _crops(group: GroupSpec, parent: str, image: Pixels, to_frame: Affine, found: Sequence[Detected]) -> list[_Input]:
    crops: list[_Input] = []
    to_image = invert(to_frame)
    for child in group.children(parent):
        node: NodeSpec = group.nodes[child]
        pad = node.input.pad if node.input.fit == "letterbox" else None
        views, _ = views_of(image.shape[:2], to_image, found, node.crop, node.input.size, pad)
        images = render(image, to_image, views, node.input.size, pad or 0)
        crops += [_Input(child, one, view.to_frame, view.size) for one, view in zip(images, views, strict=True)]
    return crops
