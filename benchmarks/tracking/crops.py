"""``python -m benchmarks.tracking.crops``: CPU time of keeping each track's best view of a 1080p frame, and of a crop.

The least of many turns counts, and the median: others disturb.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import cv2
import numpy as np

from hams_services.pipeline.best_views import SIDE, BestViews, jpeg_of
from hams_shared.wire.frames import Pixels

TURNS, CALLS = 15, 40


def picture() -> Pixels:
    """A frame with much in it."""
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)


def people(count: int, scale: float) -> list[dict[str, Any]]:
    """Return objects of 60×160 pixels times `scale`."""
    sides = 60 * scale, 160 * scale
    return [
        {"track": n, "box": (80.0 * n, 100.0, 80.0 * n + sides[0], 100.0 + sides[1]), "score": 0.9, "label": "person"}
        for n in range(count)
    ]


def spent(call: Callable[[], Any]) -> str:
    """Return the least and the median CPU time of a call as text."""
    found = []
    for _ in range(TURNS):
        begun = time.thread_time()
        for _ in range(CALLS):
            call()
        found.append((time.thread_time() - begun) / CALLS * 1e3)
    return f"{min(found):.3f} ({median(found):.3f}) ms"


def main() -> None:
    """Print a line for each case."""
    cv2.setNumThreads(1)
    image = picture()
    grey = np.full_like(image, 128)
    for count in (5, 20):
        known = BestViews(256)
        known.see(people(count, 1.0), image)
        print(f"{count} objects, none is better: {spent(lambda of=known, n=count: of.see(people(n, 1.0), image))}")
        print(f"{count} objects, larger, blurred: {spent(lambda of=known, n=count: of.see(people(n, 1.5), grey))}")
        print(f"{count} objects, all are new: {spent(lambda n=count: BestViews(256).see(people(n, 1.5), image))}")
    print(f"a crop of {SIDE}×{SIDE} pixels: {spent(lambda: jpeg_of(image[:SIDE, :SIDE]))}")


if __name__ == "__main__":
    main()
