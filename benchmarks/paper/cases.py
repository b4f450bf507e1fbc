"""The paper's services, its devices and their stated speeds, and the group files that plan and serve them.

All devices are emulated, the CPU as well: the host's cores then only prepare images and carry messages, as they do for
a GPU or a stick, and a plan is limited by the stated speeds. The matrix is constructed: the five models of the slides
(`examples/instances/slides-service-f.json`), and the other models as multiples of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import motion_jpeg
from benchmarks.prediction.cases import HOST, counted, fitted, video, weights
from benchmarks.prediction.cases import folder as prediction_folder
from benchmarks.serving.cases import ROOT, SIZES
from hams_scheduler.solver import instance_json
from hams_scheduler.solver.instance import Instance
from hams_services.models.prepare import prepare_group
from hams_shared.group.spec import load_group
from hams_shared.runtime.process import cache_folder

SLIDES = ROOT / "examples" / "instances" / "slides-service-f.json"
SERVICES = {"F": ("face",), "P": ("person",), "V": ("vehicle",), "F+P+V": ("face", "person", "vehicle")}
VPUS = range(1, 9)
STRATEGIES = ("default", "mfs", "hfs", "optimal", "replicated")
PAPER = "paper"
"""The paper's objective: one model per device, the slowest model decides."""
SPEEDS: Mapping[str, tuple[str, float]] = {
    "face/face": ("detector", 1.0),
    "face/gender": ("age-gender", 1.0),
    "face/age": ("age-gender", 1.0),
    "face/emotion": ("emotions", 1.0),
    "face/landmarks": ("landmarks", 1.0),
    "face/iris": ("head-pose", 1.0),
    "person/person": ("detector", 1.2),
    "person/pose": ("detector", 3.0),
    "vehicle/vehicle": ("detector", 1.1),
    "vehicle/plate": ("detector", 2.0),
    "vehicle/text": ("head-pose", 1.0),
}
"""By node: the model of the slides that it is as fast as, and times how much. ``face/iris`` runs twice per frame."""
SLIDES_NODES = {
    "face": "detector",
    "age": "age-gender",
    "gender": "head-pose",
    "emotion": "emotions",
    "landmarks": "landmarks",
}
"""The group of the slides' case: five nodes of service F at exactly the slides' speeds, one inference a frame each."""


@dataclass(frozen=True)
class Devices:
    """The devices of one system."""

    named: tuple[str, ...]
    """For ``hams-ctl up --device``."""
    ids: tuple[str, ...]
    """CPU, GPU, then the VPUs."""

    def first(self, vpus: int) -> tuple[str, ...]:
        """Return the CPU, the GPU and so many VPUs."""
        return self.ids[: 2 + vpus]


def slides_fps() -> dict[str, list[float]]:
    """Return frames/s on CPU, GPU and VPU by model of the slides."""
    data = json.loads(SLIDES.read_text())
    return dict(zip(data["models"], data["fps"], strict=True))


def stated_fps(node: str, vpus: int, slides: bool = False) -> list[float]:
    """Return the stated frames/s of a ``group/node`` on CPU, GPU and each VPU."""
    model, factor = (SLIDES_NODES[node.split("/")[1]], 1.0) if slides else SPEEDS[node]
    fps = [speed * factor for speed in slides_fps()[model]]
    return [*fps[:2], *fps[2:] * vpus]


def group_spec(group: str, slides: bool = False) -> dict[str, Any]:
    """Return the content of the group's file: its nodes counted on its video, its stream lossless and without end."""
    spec: dict[str, Any] = yaml.safe_load((ROOT / "examples" / f"{group}.yaml").read_text())
    found = _weights(group)
    if slides:
        spec["nodes"] = {name: node for name, node in spec["nodes"].items() if name in SLIDES_NODES}
    for name, node in spec["nodes"].items():
        node["weight"] = found[name]
    stream = {"source": str(_video(group)), "mode": "lossless", "pace": "max", "loop": True}
    return spec | {"deadline_s": 300.0, "streams": {"s": stream}}


def _video(group: str) -> Path:
    """Return the group's video; the street shows no plate, so service V gets a clip with one."""
    if group != "vehicle":
        return video(group[0].upper(), "vga")
    path = prediction_folder() / "plate-vga.avi"
    if not path.exists():
        sys.path.insert(0, str(ROOT / "examples" / "apps"))
        from plate_clip import clip  # type: ignore[import-not-found]

        frames = clip("B7K291M")
        partial = path.with_suffix(".part.avi")
        chosen = (fitted(frames[i * len(frames) // 30], SIZES["vga"]) for i in range(30))
        motion_jpeg.write(partial, chosen, SIZES["vga"])
        partial.rename(path)
    return path


def _weights(group: str) -> dict[str, float]:
    if group != "vehicle":
        return weights(group[0].upper(), "vga")
    return counted(ROOT / "examples" / "vehicle.yaml", _video(group), prediction_folder() / "plate-vga.weights.json")


def write_groups(specs: Iterable[dict[str, Any]], where: Path) -> Path:
    """Write group files into `where`; return the file to plan and deploy."""
    files = []
    for spec in specs:
        files.append(where / f"{spec['name']}.yaml")
        files[-1].write_text(yaml.safe_dump(spec, sort_keys=False))
    if len(files) == 1:
        return files[0]
    path = where / "groups.yaml"
    path.write_text(yaml.safe_dump({"groups": [file.name for file in files]}))
    return path


def pinned(specs: Iterable[dict[str, Any]], places: Mapping[str, Iterable[str]], strategy: str) -> list[dict[str, Any]]:
    """Return `specs` with each ``group/node`` pinned to its devices, to be placed by `strategy`."""
    found = []
    for spec in specs:
        nodes = {n: node | {"pin": sorted(places[f"{spec['name']}/{n}"])} for n, node in spec["nodes"].items()}
        found.append(spec | {"strategy": strategy, "nodes": nodes})
    return found


def devices(specs: list[dict[str, Any]], vpus: int, where: Path, slides: bool = False) -> Devices:
    """Write the profiles of a CPU, a GPU and so many VPUs, which know the networks of `specs` by their digests."""
    where.mkdir(parents=True, exist_ok=True)
    digests = _digests(specs, where)
    names = ["cpu-sim", "gpu-sim", *(f"vpu{i}-sim" for i in range(vpus))]
    named = []
    for column, name in enumerate(names):
        profile = {
            "name": name,
            "kind": name[:3],
            "memory_mib": 4096,
            "run": "openvino",
            "note": "constructed for the paper's experiments; not measured on any such device",
            "fps": {digest: round(stated_fps(node, vpus, slides)[column], 4) for node, digest in digests.items()},
        }
        path = where / f"{name}.yaml"
        path.write_text(yaml.safe_dump(profile))
        named.append(f"emulated:{path}")
    return Devices(tuple(named), tuple(f"{HOST}.emulated.{name}" for name in names))


def _digests(specs: list[dict[str, Any]], where: Path) -> dict[str, str]:
    """Return 16 digits of the network's digest by ``group/node``."""
    found = {}
    for spec in specs:
        record, _ = prepare_group(load_group(write_groups([spec], where)), cache_folder(), lambda *_: None)
        found |= {f"{spec['name']}/{node}": model.digest[:16] for node, model in record.models.items()}
    return found


def stated_instance(specs: list[dict[str, Any]], ids: tuple[str, ...], slides: bool = False) -> Instance:
    """Return the question of `specs` on devices `ids` by the stated speeds alone."""
    nodes = {f"{spec['name']}/{name}": node for spec in specs for name, node in spec["nodes"].items()}
    groups = {spec["name"]: {"nodes": [n for n in nodes if n.startswith(f"{spec['name']}/")]} for spec in specs}
    fps = [stated_fps(name, len(ids) - 2, slides) for name in nodes]
    weight = [node["weight"] for node in nodes.values()]
    data = {"models": list(nodes), "devices": list(ids), "fps": fps, "weights": weight, "groups": groups}
    return instance_json.read(data)


Shares = Mapping[str, Mapping[str, float]]


def signature(shares: Shares) -> str:
    """Return what a placement is apart from which VPU is which: placements of one signature are served once."""
    by_device: dict[str, list[tuple[str, float]]] = {}
    for node, parts in shares.items():
        for device, share in parts.items():
            by_device.setdefault(device, []).append((node, float(np.round(share, 2))))
    kinds = sorted((device.split(".")[-1][:3], sorted(nodes)) for device, nodes in by_device.items())
    return json.dumps(kinds)
