"""Samples for the nodes of services F and V: frames of their example streams, with plates drawn where none are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.serving.cases import ROOT
from hams_services.models.groups import load_group
from hams_services.models.prepare import prepare_group
from hams_services.models.sources import fetch
from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.process import cache_folder

EXAMPLES = {"F": "face.yaml", "V": "vehicle.yaml"}


def frames(source: str, folder: Path, count: int) -> None:
    """Write `count` frames of a video, spread evenly, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoCapture(str(fetch(source)))
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {i * total // count for i in range(count)}
    for index in range(total):
        good, image = video.read()
        if not good:
            break
        if index in wanted:
            cv2.imwrite(str(folder / f"{index:05d}.png"), image)


def film(frames: Path, path: Path) -> Path:
    """Make a video (MPEG-4, 25 frames/s) of the PNGs in `frames`."""
    names = sorted(frames.glob("*.png"))
    height, width = cv2.imread(str(names[0])).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for name in names:
        writer.write(cv2.imread(str(name)))
    writer.release()
    return path


def networks(spec: GroupSpec, folder: Path) -> dict[str, Candidate]:
    """Write the group's networks as agents get them."""
    record, files = prepare_group(spec, cache_folder(), lambda what, done, total: None)
    found = {}
    for node, model in record.models.items():
        place = folder / node
        place.mkdir(parents=True, exist_ok=True)
        for part in model.parts:
            (place / f"model{part.suffix}").write_bytes(files[part.digest])
        found[node] = Candidate(place / f"model{model.parts[0].suffix}", model.digest)
    return found


def node_samples(service: str, folder: Path, count: int, device: str) -> tuple[GroupSpec, dict[str, Candidate], Path]:
    """Return the group, its networks, and the folder with the samples of each node: FOLDER/NODE."""
    spec = load_group(ROOT / "examples" / EXAMPLES[service])
    models = networks(spec, folder / "models")
    frames(next(iter(spec.streams.values())).source, folder / "frames", count)
    evaluator = Evaluator(device)
    out = folder / "samples"
    if service == "V":  # nothing in the street has a plate that can be read
        evaluator.collect(spec, models, folder / "frames", folder / "bare", 4 * count)
        _with_plates(folder / "bare" / "vehicle", evaluator, spec, models, folder / "plated")
        evaluator.collect(spec, models, folder / "plated", out, 4 * count)
    else:
        evaluator.collect(spec, models, folder / "frames", out, 4 * count)
    return spec, models, out


def _with_plates(
    source: Path, evaluator: Evaluator, spec: GroupSpec, models: dict[str, Candidate], target: Path
) -> None:
    """Draw a plate onto each vehicle of the frames, three times as large as life, on frames twice as large."""
    target.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    symbols = list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789")
    names = sorted(path.name for path in source.glob("*.png"))
    predictions = evaluator.decode("vehicle", spec.nodes["vehicle"], [models["vehicle"]], source)[0]
    for name, objects in zip(names, predictions.items, strict=True):
        image = cv2.resize(cv2.imread(str(source / name)), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        for one in objects:
            x0, y0, x1, y1 = (2 * side for side in one["box"])
            width = min(0.35 * (x1 - x0), 140.0)
            if width >= 40:
                text = "".join(random.choice(symbols, 7))
                _draw(image, text, ((x0 + x1) / 2, y0 + 0.7 * (y1 - y0)), width)
        cv2.imwrite(str(target / name), image)


def _draw(image: np.ndarray, text: str, centre: tuple[float, float], width: float) -> None:
    """A blue plate with white letters, upright, its edges smoothed by drawing large."""
    large = np.full((140, 440, 3), (160, 60, 20), np.uint8)
    cv2.rectangle(large, (5, 5), (434, 134), (255, 255, 255), 4)
    cv2.putText(large, text, (28, 98), cv2.FONT_HERSHEY_SIMPLEX, 2.6, (255, 255, 255), 10, cv2.LINE_AA)
    height = round(width * 140 / 440)
    small = cv2.resize(large, (round(width), height), interpolation=cv2.INTER_AREA)
    x, y = round(centre[0] - small.shape[1] / 2), round(centre[1] - height / 2)
    x, y = max(x, 0), max(y, 0)
    part = image[y : y + height, x : x + small.shape[1]]
    part[:] = small[: part.shape[0], : part.shape[1]]
