"""Does what is asked; see :mod:`hams_agents.evaluate.requests`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np

from hams_agents.backends.base import Backend, ModelFile, Network
from hams_agents.backends.batching import noise
from hams_agents.evaluate.requests import Collect, Decode, ModelAt, Read, Tensors
from hams_agents.evaluate.samples import Samples, Writer
from hams_agents.profiler import SamplerLimits, profile
from hams_agents.serving import plain
from hams_agents.tasks import input as tensors
from hams_agents.tasks.base import Affine, Detected, Reads, Task
from hams_agents.tasks.crops import render, views_of
from hams_agents.tasks.geometry import IDENTITY, Pixels, compose, inside, invert
from hams_agents.tasks.registry import build_task, eased, gives_objects, is_detection, what_it_reads
from hams_shared.errors import BadInputError, HamsError
from hams_shared.group_spec import GroupSpec, InputSpec, NodeSpec

ROUNDS = 3
"""How often each network is timed."""
SHORT = SamplerLimits(min_s=0.2, max_s=0.8)


def decode(request: Decode, backend: Backend) -> None:
    """Run a node on samples. An error of one model is its result; the others have theirs."""
    samples = Samples(Path(request.samples))
    names = request.names or tuple(samples.names)
    task_spec, threshold = eased(request.node.task, request.margin)
    results: list[dict[str, Any]] = []
    timed: list[tuple[dict[str, Any], Network, ModelFile]] = []
    for at in request.models:
        spec = at.input or request.node.input
        try:
            file = _file(request.name, at, spec)
            network = backend.load(file)
            task = build_task(task_spec, request.node.input, network.metadata)
            items = []
            for name in names:
                one = samples.read(name)
                items.append(_say(network, task, spec, one.image, one.to_frame, one.frame_size))
            result: dict[str, Any] = {"items": items, "threshold": threshold}
            timed.append((result, network, file))
        except HamsError as error:
            result = {"error": error.to_wire()}
        results.append(result)
    # In turns, so that what disturbs the machine meets all; the best of each is the least disturbed.
    for _ in range(ROUNDS if request.time else 0):
        for result, network, file in timed:
            result["fps"] = max(result.get("fps", 0.0), profile(network, file, limits=SHORT).fps)
    Path(request.out).write_bytes(msgpack.packb({"names": names, "results": results}))


def write_tensors(request: Tensors) -> tuple[int, int]:
    """Write input tensors, one sample after another: the file may be larger than memory.

    Returns width and height of the part, from the top left, that all images together fill.
    """
    samples, spec = Samples(Path(request.samples)), request.node.input
    names = request.names or tuple(samples.names)
    element = np.float32 if spec.dtype == "f32" else np.uint8
    array = np.lib.format.open_memmap(request.out, "w+", element, spec.shape(len(names)))
    with Path(request.out).open("r+b") as file:  # a full disk is an error here, and the end of the process later
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
    """Run a group on frames and keep what its nodes are shown; return how many each was."""
    group = request.group
    absent = [node for node in group.nodes if node not in request.models]
    if absent:
        raise BadInputError(f"no network is given for {', '.join(absent)}")
    loaded: dict[str, tuple[Network, Task]] = {}
    for node in (n for n in group.nodes if group.children(n)):
        spec = group.nodes[node]
        network = backend.load(_file(node, request.models[node], spec.input))
        task = build_task(spec.task, spec.input, network.metadata)
        if not gives_objects(task):
            raise BadInputError(f"node {node} has children, but its task {spec.task.type} finds no objects for them")
        loaded[node] = network, task
    frames = Samples(Path(request.frames))
    writers = {node: Writer(Path(request.out) / node, request.limit) for node in group.nodes}
    for name in frames.names:
        if all(writer.full for writer in writers.values()):
            break
        frame = frames.read(name)
        height, width = frame.image.shape[:2]
        todo = [_Shown(group.root, frame.image, IDENTITY, (width, height))]
        while todo:
            node, image, to_frame, (width, height) = todo.pop()
            writers[node].add(image[:height, :width], to_frame, frame.frame_size)
            if node in loaded:
                network, task = loaded[node]
                found = _objects(network, task, group.nodes[node].input, image, to_frame, frame.frame_size)
                todo += _crops(group, node, image, to_frame, found)
    return {node: writer.close() for node, writer in writers.items()}


def read(request: Read, backend: Backend) -> Reads:
    """Say what the node's task reads of what the network says."""
    spec = request.model.input or request.node.input
    file = _file(request.name, request.model, spec)
    network = backend.load(file)
    task = build_task(request.node.task, request.node.input, network.metadata)
    return what_it_reads(task, network.infer(noise(file, 1)))


def _file(name: str, at: ModelAt, spec: InputSpec) -> ModelFile:
    return ModelFile(name, at.digest, Path(at.path), spec.shape(), spec.dtype)


def _say(
    network: Network, task: Task, spec: InputSpec, image: Pixels, to_frame: Affine, frame_size: tuple[int, int]
) -> Any:
    """Return what the node says of one image, in plain values."""
    tensor, (to_image,) = tensors.prepare([image], spec)
    outputs = network.infer(tensor)
    to = [compose(to_frame, to_image)]
    if is_detection(task):
        return [plain(one) for one in task.detect(outputs, to, frame_size)[0]]
    said = task.describe(outputs, to)[0]
    return {**said, "objects": [plain(one) for one in said["objects"]]} if "objects" in said else said


def _objects(
    network: Network, task: Task, spec: InputSpec, image: Pixels, to_frame: Affine, frame_size: tuple[int, int]
) -> Sequence[Detected]:
    tensor, (to_image,) = tensors.prepare([image], spec)
    outputs = network.infer(tensor)
    to = [compose(to_frame, to_image)]
    if is_detection(task):
        return task.detect(outputs, to, frame_size)[0]
    objects: list[Detected] = task.describe(outputs, to)[0]["objects"]
    return objects


class _Shown(NamedTuple):
    """What a node is shown."""

    node: str
    image: Pixels
    to_frame: Affine
    filled: tuple[int, int]
    """Width and height of what is not padding."""


def _crops(group: GroupSpec, parent: str, image: Pixels, to_frame: Affine, found: Sequence[Detected]) -> list[_Shown]:
    crops: list[_Shown] = []
    to_image = invert(to_frame)
    for child in group.children(parent):
        node: NodeSpec = group.nodes[child]
        pad = node.input.pad if node.input.fit == "letterbox" else None
        views, _ = views_of(image.shape[:2], to_image, found, node.crop, node.input.size, pad)
        images = render(image, to_image, views, node.input.size, pad or 0)
        crops += [_Shown(child, one, view.to_frame, view.size) for one, view in zip(images, views, strict=True)]
    return crops
