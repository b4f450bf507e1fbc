"""How nearly tracks with a detector on every n-th frame agree with those with one on each, on a real video.

There is no truth here: the reference is HAMS's own tracking of every frame. Its ceiling is how nearly the same run
agrees when the frames are changed by ±1 grey level and JPEG 90.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.__main__ import Detector, with_threshold
from hams_agents.runtime.serving import plain
from hams_services.models.groups import load_group
from hams_services.pipeline.luma import small_luma
from hams_services.pipeline.sources.opening import open_file
from hams_services.pipeline.tracking.bytetrack import Settings
from hams_services.pipeline.tracking.cadence_agreement import Watched, follow
from hams_services.pipeline.tracking.identity import idf1
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.frames import Pixels

GROUP = Path(__file__).parents[2] / "examples" / "person-omz.yaml"
EVERY = (2, 3, 5)


@dataclass
class Video:
    """What the detector found, and the small luma images; `times` in s, `size` is width and height in pixels."""

    times: list[float]
    size: tuple[int, int]
    lumas: list[NDArray[np.uint8]]
    found: list[list[dict[str, Any]]]
    changed: list[list[dict[str, Any]]]
    """The same of the frames that were changed."""

    def watched(self, *, flow: bool = False, changed: bool = False) -> Watched:
        """Return it as the tracker gets it."""
        return Watched(self.times, self.changed if changed else self.found, self.size, self.lumas if flow else ())


def read(source: str) -> Video:
    """Play a video once through the detector, and once more changed."""
    detector = Detector(with_threshold(load_group(GROUP), threshold=Settings().low_score))
    random = np.random.default_rng(0)
    video = Video([], (0, 0), [], [], [])
    for at, pixels in _frames(source):
        video.times.append(at)
        video.size = pixels.shape[1], pixels.shape[0]
        video.lumas.append(small_luma(pixels))
        noise = random.integers(-1, 2, pixels.shape)
        shaken = cv2.imencode(".jpg", (pixels + noise).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        for image, kept in ((pixels, video.found), (cv2.imdecode(shaken, cv2.IMREAD_COLOR), video.changed)):
            kept.append([plain(one, Settings().high_score) for one in detector.find(np.asarray(image))])
    return video


def _frames(source: str) -> Iterator[tuple[float, Pixels]]:
    opened = open_file(source, cache_folder())
    while (picture := opened.read()) is not None:
        assert picture.at is not None
        yield picture.at, picture.pixels
    opened.close()


def measure(video: Video) -> dict[str, Any]:
    """Return the ceiling, IDF1 by cadence with and without flow, and how restless the numbers of objects are."""
    reference = follow(video.watched(), 1)
    ceiling = idf1(reference, follow(video.watched(changed=True), 1))
    halves = (slice(0, 400), slice(400, None))
    agreement: dict[str, Any] = {}
    for every in EVERY:
        for flow in (False, True):
            tracks = follow(video.watched(flow=flow), every)
            parts = [idf1(reference[half], tracks[half]) for half in halves]
            agreement[f"{every} {'flow' if flow else 'boxes'}"] = [idf1(reference, tracks), *parts]
    plain = [sum(not one.get("low") for one in objects) for objects in video.found]
    return {
        "frames": len(video.times),
        "ceiling": ceiling,
        "agreement": agreement,
        "untracked": restless(plain),
        "tracked": restless([len(ids) for ids, _ in reference]),
        "tracks": len({id for ids, _ in reference for id in ids}),
        "tracks_200": len({id for ids, _ in reference[:200] for id in ids}),
    }


def restless(counts: list[int]) -> dict[str, float]:
    """Return the part of frames whose number of objects changes, and the numbers of one-frame gaps and flashes."""
    steps = Counter(np.sign(np.diff(counts)).tolist())
    triples = list(zip(counts, counts[1:], counts[2:], strict=False))
    return {
        "changes": 1 - steps[0] / max(len(counts) - 1, 1),
        "gaps": sum(a == c > b for a, b, c in triples),
        "flashes": sum(a == c < b for a, b, c in triples),
    }
