"""One case of the benchmark: a group, a video, devices and where each node runs. Every contestant gets the same file.

A contestant is a program ``python -m MODULE CASE.json``. It reads the video as fast as it can, with `window` frames
under way per stream (each stream opens the file itself and starts over at its end), runs the group with each node on
its device, and prints one line of JSON last: :class:`Score`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import Backend, ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.devices import allowed_cores, parse
from hams_agents.tasks import input as tensors
from hams_agents.tasks.base import Affine, Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import IDENTITY, compose
from hams_agents.tasks.registry import build_task, is_detection
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.spec import GroupSpec, load_group

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """What is run."""

    name: str
    group: str
    """Path of the group file."""
    video: str
    """Path of a video file in the case's frame size."""
    devices: dict[str, str]
    """Device id → how `hams-ctl up --device` is told of it, e.g. ``openvino:CPU@0``: runtime and the core to pin to."""
    places: dict[str, dict[str, float]]
    """Node → device id → share of the frames; one device for all contestants but HAMS."""
    models: dict[str, str]
    """Node → path of its network file."""
    streams: int = 1
    window: int = 8
    """Frames under way per stream."""
    warmup_s: float = 2.0
    seconds: float = 5.0
    """What is measured, after the warm-up."""

    @classmethod
    def load(cls, path: str) -> Case:
        """Read a case's JSON."""
        return cls(**json.loads(Path(path).read_text()))

    def save(self, path: Path) -> None:
        """Write it."""
        path.write_text(json.dumps(asdict(self), indent=1))

    def spec(self) -> GroupSpec:
        """The group."""
        return load_group(Path(self.group))

    def device(self, node: str) -> str:
        """The node's device: the one with the largest share."""
        return max(self.places[node], key=self.places[node].__getitem__)


@dataclass
class Score:
    """What a contestant did in the measured time."""

    fps: float
    """Frames completed per second, all streams together."""
    per_stream: list[float]
    p50_ms: float
    """From the frame read to its joined result."""
    p95_ms: float
    memory_mib: float
    """Proportional set size of all its processes, after the run."""
    objects: int = 0
    """Objects found in all measured frames: the same work must have been done."""
    notes: dict[str, object] = field(default_factory=dict)

    def print(self) -> None:
        """The contestant's last line."""
        print(json.dumps(asdict(self)), flush=True)


@dataclass
class Meter:
    """Counts finished frames between the end of the warm-up and the end."""

    case: Case
    started: float = field(default_factory=time.perf_counter)
    _latency: list[list[float]] = field(default_factory=list)
    _objects: int = 0

    def __post_init__(self) -> None:
        self._latency = [[] for _ in range(self.case.streams)]
        self.begin = self.started + self.case.warmup_s
        self.end = self.begin + self.case.seconds

    @property
    def over(self) -> bool:
        """Whether the measured time is over."""
        return time.perf_counter() >= self.end

    def done(self, stream: int, captured: float, objects: int) -> None:
        """A frame read at `captured` (perf_counter) has its joined result now."""
        now = time.perf_counter()
        if self.begin <= now < self.end:
            self._latency[stream].append((now - captured) * 1e3)
            self._objects += objects

    def score(self, pids: Sequence[int] = (), **notes: object) -> Score:
        """The score; `pids` are the contestant's processes (its own is added)."""
        latency = np.array([x for one in self._latency for x in one] or [0.0])
        return Score(
            fps=round(sum(map(len, self._latency)) / self.case.seconds, 2),
            per_stream=[round(len(one) / self.case.seconds, 2) for one in self._latency],
            p50_ms=round(float(np.percentile(latency, 50)), 2),
            p95_ms=round(float(np.percentile(latency, 95)), 2),
            memory_mib=round(sum(pss_mib(pid) for pid in {os.getpid(), *pids}), 1),
            objects=self._objects,
            notes=notes,
        )


def pss_mib(pid: int) -> float:
    """Proportional set size of a process, MiB; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)


def descendants(pid: int) -> list[int]:
    """`pid` and all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children.get(one, [])
    return found


def frames(video: str) -> Iterator[Pixels]:
    """Yield the frames of `video` without end, as the pipeline reads them."""
    with closing(open_file(video)) as source:
        while True:
            for picture in iter(source.read, None):
                yield picture.pixels
            source.rewind()


def cores(case: Case) -> set[int]:
    """All cores of the case's devices."""
    return {core for text in case.devices.values() for core in parse(text).cores} or set(allowed_cores())


def pin(device: str) -> None:
    """Pin this process to the device's cores, as a HAMS agent does with its computing threads."""
    cores = parse(device).cores
    if cores:
        os.sched_setaffinity(0, cores)


def open_device(device: str) -> Backend:
    """Open the runtime as a HAMS agent does: same threads, same precision."""
    return open_backend(parse(device))


@dataclass(frozen=True)
class Crops:
    """Input of a node for one frame."""

    images: Sequence[Pixels]
    """Each H×W×3, B, G, R."""
    to_frame: Sequence[Affine]
    """Per image: its pixels → frame pixels."""
    sources: Sequence[int]
    """Per image: the parent's object it shows."""


def whole(frame: Pixels) -> Crops:
    """The root's input."""
    return Crops([frame], [IDENTITY], [0])


class Node:
    """One node with HAMS's own steps before and after the network, so that contestants differ in the plumbing only."""

    def __init__(self, case: Case, name: str, backend: Backend) -> None:
        group = case.spec()
        self.name = name
        self.spec = group.nodes[name]
        self.children = {child: group.nodes[child] for child in group.children(name)}
        path = Path(case.models[name])
        self.network = backend.load(ModelFile(name, path.parent.name, path, self.spec.input.shape()))
        self.task = build_task(self.spec.task, self.spec.input, self.network.metadata)

    def prepare(self, crops: Crops) -> tuple[NDArray[np.generic], list[Affine]]:
        """Return the input tensor and, per image, input pixels → frame pixels."""
        tensor, to_image = tensors.prepare(crops.images, self.spec.input)
        return tensor, [compose(outer, inner) for outer, inner in zip(crops.to_frame, to_image, strict=True)]

    def run(self, crops: Crops, frame: Pixels | None = None) -> tuple[list[object], dict[str, Crops]]:
        """Prepare, infer, decode; return per image what the task says, and the children's crops.

        A detector's answer is one list of :class:`Detected` per image. `frame` is the picture, for its size.
        """
        if not len(crops.images):
            return [], {child: Crops([], [], []) for child in self.children}
        tensor, to_frame = self.prepare(crops)
        return self.finish(self.network.infer(tensor), to_frame, crops, frame)

    def finish(
        self, outputs: object, to_frame: list[Affine], crops: Crops, frame: Pixels | None
    ) -> tuple[list[object], dict[str, Crops]]:
        """Decode and cut."""
        task = self.task
        found: list[list[Detected]]
        answers: list[Any]
        if is_detection(task):
            size = None if frame is None else (frame.shape[1], frame.shape[0])
            answers = found = task.detect(outputs, to_frame, size)  # type: ignore[arg-type]
        else:
            answers = task.describe(outputs, to_frame)  # type: ignore[arg-type]
            found = [one["objects"] for one in answers] if self.children else []
        cuts: dict[str, Crops] = {}
        for child, spec in self.children.items():
            pad = spec.input.pad if spec.input.fit == "letterbox" else None
            images: list[Pixels] = []
            maps: list[Affine] = []
            sources: list[int] = []
            first = 0
            for image, outer, objects in zip(crops.images, crops.to_frame, found, strict=True):
                pixels, affines, kept = cut(image, outer, objects, spec.crop, spec.input.size, pad)
                images += list(pixels)
                maps += list(affines)
                sources += [first + index for index in kept]
                first += len(objects)
            cuts[child] = Crops(images, maps, sources)
        return list(answers), cuts
