"""The benchmark's cases: groups, videos of each size, devices, and the files of the networks."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import yaml

from benchmarks import motion_jpeg
from benchmarks.serving.case import Case
from hams_services.models.prepare import prepare_group
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.spec import load_group
from hams_shared.runtime.process import cache_folder

ROOT = Path(__file__).parents[2]
FACE = ROOT / "examples" / "face.yaml"
LIGHT = Path(__file__).parent / "light.yaml"
SIZES = {"vga": (640, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
STREAMS = (1, 2, 4)
NODES = (2, 4, 8, 12)
COMPARED = (2, 4)
"""Light groups of so many nodes meet all contestants; the others show what a node costs."""
HOP_SIZE = (640, 640)
"""1.2 MB a frame."""


@dataclass(frozen=True)
class Entry:
    """A case and who takes part in it."""

    case: Case
    contestants: tuple[str, ...]


PEERS = ("openvino-async", "ray-serve", "triton")
HAMS = ("hams", "hams-default")
"""On the case's devices, and on the device that HAMS finds by itself on the same cores."""


def devices(runtimes: tuple[str, str]) -> dict[str, str]:
    """Two one-core devices under the ids HAMS gives them on the host called ``box``."""
    cores = sorted(os.sched_getaffinity(0))
    pair = (cores[0], cores[min(1, len(cores) - 1)])
    return {f"box.{name}.cpu{core}": f"{name}:CPU@{core}" for name, core in zip(runtimes, pair, strict=True)}


def video(size: tuple[int, int], folder: Path) -> Path:
    """The carphone video of `examples/face.yaml` enlarged to `size`, as Motion JPEG, which is cheap to decode."""
    path = folder / f"carphone-{size[0]}x{size[1]}.avi"
    if path.exists():
        return path
    partial = path.with_suffix(".part.avi")
    with closing(open_file(next(iter(load_group(FACE).streams.values())).source, cache_folder())) as source:
        enlarged = (cv2.resize(p.pixels, size, interpolation=cv2.INTER_CUBIC) for p in iter(source.read, None))
        motion_jpeg.write(partial, enlarged, size)
    partial.rename(path)
    return path


def network_files(group: Path, folder: Path) -> dict[str, str]:
    """Every node's network as HAMS's agents get it."""
    record, files = prepare_group(load_group(group), cache_folder(), lambda *_: None)
    paths = {}
    for node, model in record.models.items():
        place = folder / "models" / model.digest
        place.mkdir(parents=True, exist_ok=True)
        for part in model.parts:
            path = place / f"model{part.suffix}"
            if not path.exists():
                path.write_bytes(files[part.digest])
        paths[node] = str(place / f"model{model.parts[0].suffix}")
    return paths


def light_group(heads: int, folder: Path) -> Path:
    """The light group with so many small heads."""
    spec: dict[str, Any] = yaml.safe_load(LIGHT.read_text())
    head = spec["nodes"].pop("head")
    spec["nodes"] |= {f"head{i}": head for i in range(heads)}
    path = folder / f"light-{heads + 1}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def all_cases(folder: Path) -> list[Entry]:
    """Every case, `places` still empty: HAMS's own plan by ``hfs`` fills them in for all contestants."""
    folder.mkdir(parents=True, exist_ok=True)
    face = network_files(FACE, folder)
    unlike = devices(("openvino", "onnxruntime"))

    def case(name: str, group: Path, models: dict[str, str], size: tuple[int, int], **more: Any) -> Case:
        return Case(name, str(group), str(video(size, folder)), unlike, {}, models, **more)

    entries = []
    for name, size in SIZES.items():
        who: tuple[str, ...] = ("bound", *HAMS, *PEERS)
        if name == "vga":
            who += ("detector-queue",)
        entries.append(Entry(case(f"F {name}", FACE, face, size), who))
    base = entries[0].case
    both = ("hams", "hams-replicated", "bound-replicated", "bound+steps", "openvino-async")
    entries.append(Entry(replace(base, name="F replicated"), both))
    for streams in STREAMS[1:]:
        one = replace(base, name=f"F vga, {streams} streams", streams=streams)
        entries.append(Entry(one, (*HAMS, "ray-serve", "triton")))
    twins = devices(("openvino", "openvino"))
    for nodes in NODES:
        group = light_group(nodes - 1, folder)
        one = case(f"light, {nodes} nodes", group, network_files(group, folder), SIZES["vga"])
        # TensorFlow Lite networks: OpenVINO runs them, ONNX Runtime does not.
        who = ("bound", *HAMS, *PEERS) if nodes in COMPARED else HAMS
        entries.append(Entry(replace(one, devices=twins), who))
    group = light_group(1, folder)
    hop = case("one frame at a time", group, network_files(group, folder), HOP_SIZE, window=1)
    entries.append(Entry(replace(hop, devices=twins), (*HAMS, *PEERS)))
    alone = folder / "detector.yaml"
    spec = yaml.safe_load(FACE.read_text())
    alone.write_text(yaml.safe_dump(spec | {"nodes": {"face": spec["nodes"]["face"]}}, sort_keys=False))
    single = case("detector alone", alone, network_files(alone, folder), SIZES["vga"])
    entries.append(Entry(single, ("bound", *HAMS, "openvino-async", "litserve", "ray-serve", "triton")))
    return entries
