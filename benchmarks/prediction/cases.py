"""The cases: groups, their videos with counted objects, sets of devices, and where each node is pinned."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks import motion_jpeg
from benchmarks.serving.bound import walk
from benchmarks.serving.case import Case, Node, frames, open_device
from benchmarks.serving.cases import ROOT, SIZES, light_group, network_files
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.spec import load_group
from hams_shared.runtime.process import cache_folder

LOOP = 30
"""Frames of each video. A measurement covers whole loops, so that each sees the same pictures."""
HOST = "box"
PROFILES = ROOT / "examples" / "profiles"
EXAMPLES = {"F": "face.yaml", "P": "person.yaml", "V": "vehicle.yaml"}
GROUPS = (*EXAMPLES, "light")
LIGHT_HEADS = 3
FEWEST = 0.01
"""Weight of a node that no frame of the video reaches: weights are positive."""


@dataclass(frozen=True)
class DeviceSet:
    """Devices of one system."""

    about: str
    named: Mapping[str, str]
    """Short name → what ``hams-ctl up --device`` gets."""
    ids: Mapping[str, str]
    """Short name → device id."""

    @property
    def emulated(self) -> bool:
        """Whether a device of it is emulated."""
        return any(text.startswith("emulated:") for text in self.named.values())


@dataclass(frozen=True)
class PredictionCase:
    """One case: groups that run at once on a set of devices."""

    devices: str
    groups: tuple[str, ...]
    place: Mapping[str, str] = field(default_factory=dict)
    """Node → short name of its device; ``*``: all other nodes."""
    size: str = "vga"
    streams: int = 1

    @property
    def name(self) -> str:
        """Its name in the table, unique."""
        parts = [self.devices, "+".join(self.groups), self.size]
        if self.streams > 1:
            parts.append(f"{self.streams} streams")
        if len(self.place) > 1 or self.devices == "cpu+emulated":
            parts.append(self.placement)
        return ", ".join(parts)

    @property
    def placement(self) -> str:
        """Where the nodes are, in words."""
        by_device: dict[str, list[str]] = {}
        for node, device in self.place.items():
            by_device.setdefault(device, []).append("rest" if node == "*" else node)
        return "; ".join(f"{' '.join(nodes)} on {device}" for device, nodes in by_device.items())


def device_sets() -> dict[str, DeviceSet]:
    """All sets of this machine: the default device, two pinned ones, CPU beside emulated GPU and VPU, and CUDA."""
    cores = sorted(os.sched_getaffinity(0))
    first, second = cores[0], cores[min(1, len(cores) - 1)]
    cpu, cpu_id = "openvino:CPU", f"{HOST}.openvino.cpu"
    sets = {
        "default": DeviceSet("openvino:CPU on all cores", {"cpu": cpu}, {"cpu": cpu_id}),
        "pinned": DeviceSet(
            f"openvino:CPU@{first} + onnxruntime:CPU@{second}",
            {"ov": f"openvino:CPU@{first}", "ort": f"onnxruntime:CPU@{second}"},
            {"ov": f"{HOST}.openvino.cpu{first}", "ort": f"{HOST}.onnxruntime.cpu{second}"},
        ),
        "cpu+emulated": DeviceSet(
            "openvino:CPU on all cores + emulated GPU and VPU (examples/profiles), replayed",
            {"cpu": cpu, "gpu": f"emulated:{PROFILES / 'gpu.yaml'}", "vpu": f"emulated:{PROFILES / 'vpu.yaml'}"},
            {"cpu": cpu_id, "gpu": f"{HOST}.emulated.gpu-sim", "vpu": f"{HOST}.emulated.vpu-sim"},
        ),
    }
    if shutil.which("nvidia-smi"):
        sets["cuda"] = DeviceSet(
            "openvino:CPU on all cores + onnxruntime:CUDA:0",
            {"cpu": cpu, "cuda": "onnxruntime:CUDA:0"},
            {"cpu": cpu_id, "cuda": f"{HOST}.onnxruntime.cuda0"},
        )
    return sets


def all_cases() -> list[PredictionCase]:
    """Every case; those with CUDA only where there is a GPU."""
    cases = [
        *_default(),
        *_pinned(),
        *_emulated(),
        *(_cuda() if "cuda" in device_sets() else ()),
    ]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def _default() -> list[PredictionCase]:
    """One device on all cores: all nodes are co-located."""
    one = {"*": "cpu"}
    runs = [(g, "vga", 1) for g in GROUPS]
    runs += [("F", "720p", 1), ("F", "1080p", 1), ("F", "vga", 2), ("F", "vga", 4), ("P", "1080p", 1)]
    runs += [("V", "720p", 2), ("light", "1080p", 1), ("light", "vga", 4)]
    cases = [PredictionCase("default", (g,), one, size, streams) for g, size, streams in runs]
    return [*cases, PredictionCase("default", ("F", "P", "V"), one)]


def _pinned() -> list[PredictionCase]:
    """OpenVINO on one core and ONNX Runtime on another. TensorFlow and TensorFlow Lite files run on OpenVINO only."""

    def case(groups: str, place: dict[str, str], size: str = "vga", streams: int = 1) -> PredictionCase:
        return PredictionCase("pinned", tuple(groups.split("+")), place, size, streams)

    apart = {"face": "ort", "*": "ov"}
    heads = {"head0": "ort", "head1": "ort", "head2": "ort", "*": "ov"}
    return [
        case("F", {"*": "ov"}),
        case("F", apart),
        case("F", {"age": "ort", "gender": "ort", "*": "ov"}, "720p"),
        case("F", apart, "1080p", 2),
        case("P", {"*": "ov"}, "720p"),
        case("V", {"vehicle": "ov", "*": "ort"}),
        case("V", {"plate": "ort", "*": "ov"}, "vga", 4),
        case("light", {"*": "ov"}),
        case("light", heads, "720p", 2),
        case("F+V", {"face": "ort", "plate": "ort", "*": "ov"}),
    ]


def _emulated() -> list[PredictionCase]:
    def case(groups: str, place: dict[str, str], size: str = "vga", streams: int = 1) -> PredictionCase:
        return PredictionCase("cpu+emulated", tuple(groups.split("+")), place, size, streams)

    return [
        case("F", {"*": "gpu"}),
        case("F", {"face": "gpu", "*": "cpu"}),
        case("F", {"face": "cpu", "*": "gpu"}, "720p", 2),
        case("P", {"person": "gpu", "pose": "vpu"}, "1080p"),
        case("P", {"*": "vpu"}, "vga", 2),
        case("V", {"vehicle": "cpu", "plate": "gpu", "text": "vpu"}),
        case("light", {"face": "gpu", "*": "cpu"}, "vga", 4),
        case("F+P+V", {"person": "vpu", "pose": "vpu", "vehicle": "cpu", "plate": "cpu", "text": "cpu", "*": "gpu"}),
    ]


def _cuda() -> list[PredictionCase]:
    """TensorFlow Lite files run on the CPU."""
    face = {"face": "cuda", "age": "cuda", "gender": "cuda", "*": "cpu"}
    return [
        PredictionCase("cuda", ("F",), face),
        PredictionCase("cuda", ("F",), {"face": "cuda", "*": "cpu"}, "1080p", 4),
        PredictionCase("cuda", ("V",), {"plate": "cuda", "text": "cuda", "*": "cpu"}, "vga", 2),
        PredictionCase("cuda", ("F", "V"), face | {"plate": "cuda", "text": "cuda"}),
    ]


def folder() -> Path:
    """Where videos, counts, group files and measured systems are kept."""
    path = cache_folder() / "bench" / "prediction"
    path.mkdir(parents=True, exist_ok=True)
    return path


def group_source(group: str) -> Path:
    """The group's file, its streams those of the example."""
    return light_group(LIGHT_HEADS, folder()) if group == "light" else ROOT / "examples" / EXAMPLES[group]


def video(group: str, size: str) -> Path:
    """`LOOP` frames of the group's own video, evenly spaced, as Motion JPEG of this size; proportions are kept."""
    path = folder() / f"{group}-{size}.avi"
    if path.exists():
        return path
    example = ROOT / "examples" / EXAMPLES.get(group, EXAMPLES["F"])
    with closing(open_file(next(iter(load_group(example).streams.values())).source, cache_folder())) as source:
        pictures = [picture.pixels.copy() for picture in iter(source.read, None)]
    chosen = [pictures[i * len(pictures) // LOOP] for i in range(LOOP)]
    partial = path.with_suffix(".part.avi")
    motion_jpeg.write(partial, (fitted(one, SIZES[size]) for one in chosen), SIZES[size])
    partial.rename(path)
    return path


def fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the middle of `image` (H×W×3) in the proportions of `size`, enlarged to it."""
    height, width = image.shape[:2]
    scale = min(width / size[0], height / size[1])
    w, h = min(width, round(scale * size[0])), min(height, round(scale * size[1]))
    top, left = (height - h) // 2, (width - w) // 2
    middle = image[top : top + h, left : left + w]
    return np.asarray(cv2.resize(middle, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def weights(group: str, size: str) -> dict[str, float]:
    """Return inferences per frame of each node, counted on the video: a prediction cannot know what the video shows."""
    return counted(group_source(group), video(group, size), folder() / f"{group}-{size}.weights.json")


def counted(file: Path, played: Path, path: Path) -> dict[str, float]:
    """Return inferences per frame of each node of the group `file` on the video `played`, kept in `path`."""
    if path.exists():
        found: dict[str, float] = json.loads(path.read_text())
        return found
    case = Case(file.stem, str(file), str(played), {}, {}, network_files(file, folder()))
    backend, spec = open_device("openvino:CPU"), case.spec()
    nodes = {name: Node(case, name, backend) for name in spec.nodes}
    stream = frames(case.video)
    counts = [
        {name: len(one.images) for name, one in walk(nodes, spec.root, next(stream)).items()} for _ in range(LOOP)
    ]
    found = {name: round(max(FEWEST, sum(one.get(name, 0) for one in counts) / LOOP), 4) for name in spec.nodes}
    path.write_text(json.dumps(found))
    return found


def deployment(case: PredictionCase, where: Path) -> tuple[Path, list[str]]:
    """Write the case's group files into `where`; return the file to plan and deploy, and the groups' names."""
    ids, files, names = device_sets()[case.devices].ids, [], []
    for group in case.groups:
        spec: dict[str, Any] = yaml.safe_load(group_source(group).read_text())
        counted = weights(group, case.size)
        for node, about in spec["nodes"].items():
            about["weight"] = counted[node]
            about["pin"] = [ids[case.place.get(node, case.place.get("*", ""))]]
        stream = {"source": str(video(group, case.size)), "mode": "lossless", "pace": "max", "loop": True}
        spec |= {"strategy": "hfs", "deadline_s": 120.0, "streams": {f"s{i}": stream for i in range(case.streams)}}
        path = where / f"{spec['name']}.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        files.append(path)
        names.append(str(spec["name"]))
    if len(files) == 1:
        return files[0], names
    path = where / "groups.yaml"
    path.write_text(yaml.safe_dump({"groups": [one.name for one in files]}))
    return path, names
