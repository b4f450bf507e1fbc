"""``python -m benchmarks.gate``: CPU time per frame of the motion gate, and for what it opens.

The scenes are 60 s at 1080p and 10 frames/s, of a real background (the median of a video in ../shared/omz, which is not
part of the repository; a synthetic one where it is missing) with noise and what the scene's name tells. Of the first
10 s nothing counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.__main__ import Detector
from hams_services.models.groups import load_group
from hams_services.pipeline.gate import MotionGate
from hams_services.pipeline.luma import small_luma
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.regions import GateSpec
from hams_shared.runtime.process import cache_folder

VIDEO = Path(__file__).parents[2] / "shared" / "omz" / "one-by-one-person-detection.mp4"
PEOPLE = Path(__file__).parents[1] / "examples" / "person-omz.yaml"
SIZES = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))
FPS, SECONDS, SETTLED_S = 10, 60, 10
TURN = 20
ACROSS = np.linspace(0, 1, 1920, dtype=np.float32)[None, :, None]

Light = Callable[[float], Any]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """What happens before the camera; lengths in pixels of the frame."""

    noise: float = 4
    """Deviation, grey levels."""
    light: Light = lambda _: 1.0
    walker: tuple[int, int] | None = None
    """Height, and pixels a second."""
    shake: int = 0


SCENES = {
    "noise of 6 grey levels": Scene(6),
    "noise of 10 grey levels": Scene(10),
    "noise of 16 grey levels": Scene(16),
    "dusk: half the light in 20 s": Scene(light=lambda t: 1 - 0.5 * min(max(t - 20, 0) / 20, 1)),
    "a cloud's shadow passes in 15 s": Scene(
        light=lambda t: 1 - 0.4 * np.exp(-(((ACROSS - (t - 20) / 15) / 0.25) ** 2))
    ),
    "a lamp is switched on at one side": Scene(light=lambda t: 1.0 if t < 20 else 1.2 + 0.5 * ACROSS),
    "exposure less by 30 % in 1 s": Scene(light=lambda t: 1 - 0.3 * min(max(t - 20, 0), 1)),
    "flicker of 4 %": Scene(light=lambda t: 1 + 0.04 * np.sin(t * 37)),
    "the camera shakes by 1 pixel": Scene(shake=1),
    "a person of 40 pixels walks 60 pixels/s": Scene(6, walker=(40, 60)),
    "a person of 60 pixels walks 60 pixels/s": Scene(6, walker=(60, 60)),
    "a person of 100 pixels walks 60 pixels/s": Scene(6, walker=(100, 60)),
    "a person of 100 pixels walks 8 pixels/s": Scene(6, walker=(100, 8)),
}


def background() -> Pixels:
    """Return a 1080p scene without people."""
    if not VIDEO.exists():
        rough = np.random.default_rng(0).integers(0, 256, (27, 48, 3)).astype(np.uint8)
        return np.asarray(cv2.resize(rough, (1920, 1080), interpolation=cv2.INTER_NEAREST), np.uint8)
    source, kept, number = open_file(str(VIDEO), cache_folder()), [], 0
    while (picture := source.read()) is not None:
        if number % 30 == 0:
            kept.append(picture.pixels)
        number += 1
    source.close()
    still = np.median(np.stack(kept), axis=0).astype(np.uint8)
    return np.asarray(cv2.resize(still, (1920, 1080), interpolation=cv2.INTER_CUBIC), np.uint8)


def frames(scene: Scene, still: Pixels, grain: NDArray[np.float32]) -> Iterable[tuple[float, Pixels]]:
    """Yield time and small image of each frame; only the rows that :func:`small_luma` reads are made."""
    random, rows = np.random.default_rng(1), slice(3, 1080, 6)
    for number in range(FPS * SECONDS):
        t, image = number / FPS, still
        if scene.shake:
            image = np.roll(still, random.integers(-scene.shake, scene.shake + 1, 2), (0, 1))
        if scene.walker is not None and t >= SETTLED_S:
            height, speed = scene.walker
            width = height * 2 // 5
            left = int((t - SETTLED_S) * speed) % (1920 - width)
            image = image.copy()
            part = image[700 : 700 + height, left : left + width]
            part[:] = np.minimum(part, 225) + 30
        lit = image[rows] * np.float32(1) * scene.light(t) + scene.noise * np.roll(grain, random.integers(0, 1920), 1)
        shown = np.clip(lit, 0, 255).astype(np.uint8)
        yield t, small_luma(np.repeat(shown, 6, axis=0))


def opened(scene: Scene, still: Pixels, grain: NDArray[np.float32], spec: GateSpec) -> float:
    """Return the part of the scene's frames that is computed."""
    gate = MotionGate(spec)
    taken = [gate.take(luma, t) for t, luma in frames(scene, still, grain)]
    return float(np.mean(taken[SETTLED_S * FPS :]))


def cost(size: tuple[int, int]) -> tuple[float, float, float]:
    """Return the CPU ms of a frame's small image and gate, in one thread: least and median of turns; the gate alone."""
    cv2.setNumThreads(1)
    random, (width, height) = np.random.default_rng(0), size
    images = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(6)]
    lumas = [small_luma(image) for image in images]
    gate = MotionGate(GateSpec(mask=(((0.0, 0.0), (0.2, 0.0), (0.2, 0.2)),)))
    both, alone = [], []
    for turn in range(40):
        begun = time.process_time()
        for number in range(TURN):
            gate.take(small_luma(images[number % 6]), turn + number / TURN)
        middle = time.process_time()
        for number in range(TURN):
            gate.take(lumas[number % 6], turn + 1.0)
        both.append((middle - begun) / TURN * 1e3)
        alone.append((time.process_time() - middle) / TURN * 1e3)
    return min(both), median(both), median(alone)


@dataclass(frozen=True)
class Filmed:
    """What the gate leaves out of a real video, and of the frames in which a detector finds somebody."""

    frames: int
    computed: float
    """Part of all frames."""
    occupied: int
    """Frames in which the detector finds somebody."""
    missed: int
    """Of these, those that are not computed."""
    longest_s: float
    """The longest time for which somebody is there and nothing is computed."""


def filmed(video: Path, spec: GateSpec) -> Filmed:
    """Play a real video through the gate, and through the detector of examples/person-omz.yaml on every frame."""
    detector = Detector(load_group(PEOPLE))
    source, gate = open_file(str(video), cache_folder()), MotionGate(spec)
    times, taken, seen = [], [], []
    while (picture := source.read()) is not None:
        times.append(picture.at or 0.0)
        taken.append(gate.take(small_luma(picture.pixels), times[-1]))
        seen.append(any(one.label == "person" for one in detector.find(picture.pixels)))
    source.close()
    longest, begun = 0.0, None
    for at, computed, somebody in zip(times, taken, seen, strict=True):
        begun = (at if begun is None else begun) if somebody and not computed else None
        longest = max(longest, at - begun if begun is not None else 0.0)
    missed = sum(somebody and not computed for computed, somebody in zip(taken, seen, strict=True))
    return Filmed(len(taken), float(np.mean(taken)), sum(seen), missed, longest)


def main() -> None:
    """Print the tables."""
    print("| frame | small image and gate, CPU ms: least (median) | gate alone |\n|---|---|---|")
    for size in SIZES:
        least, middle, alone = cost(size)
        print(f"| {size[0]}×{size[1]} | {least:.2f} ({middle:.2f}) | {alone:.2f} |")
    still = background()
    grain = np.random.default_rng(0).normal(0, 1, (180, 1920, 3)).astype(np.float32)
    print("\n| scene | computed: hold of 2 s | hold of 0 s |\n|---|---|---|")
    for name, scene in SCENES.items():
        parts = [opened(scene, still, grain, GateSpec(min_fps=0, hold_s=hold)) for hold in (2, 0)]
        print(f"| {name} | {parts[0]:.0%} | {parts[1]:.0%} |", flush=True)
    if not VIDEO.exists():
        return
    print(
        f"\n| {VIDEO.name} | frames | computed | with somebody | of these not computed | longest |\n" + "|---" * 6 + "|"
    )
    for name, spec in (
        ("defaults", GateSpec()),
        ("hold_s: 0.5", GateSpec(hold_s=0.5)),
        ("hold_s: 0", GateSpec(hold_s=0)),
    ):
        one = filmed(VIDEO, spec)
        print(
            f"| {name} | {one.frames} | {one.computed:.0%} | {one.occupied} | {one.missed} | {one.longest_s:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
