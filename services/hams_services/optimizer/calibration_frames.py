"""Frames of a group's own streams, kept as PNG: its networks are calibrated and compared with them."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_client.client import Hams
from hams_services.optimizer.progress import ProgressCallback
from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError
from hams_shared.runtime.child_process import Bounds

SILENCE_S = 30.0
"""A stream without a frame for so long has none, s."""
SPACING_S = 0.1
"""Least time between two frames that are kept: adjacent frames are near-duplicates, s."""
QUALITY = 97
"""Of the JPEG in which the pipeline sends them."""

LEAST = 12
"""Fewest frames that a job works with when its time is short."""


def kept(folder: Path) -> int:
    """Return how many frames `folder` holds."""
    return sum(1 for _ in folder.glob("*.png")) if folder.is_dir() else 0


async def collect(
    bus: Bus, group: str, count: int, folder: Path, progress: ProgressCallback, bounds: Bounds, part: float = 1.0
) -> None:
    """Take `count` frames of all streams of `group` as they are delivered; the folder is replaced whole at the end.

    When `part` of the time until the end of `bounds` has passed, it ends with fewer, but not with less than LEAST.

    Raises:
        DeadlineError: no frame came for SILENCE_S, or too few within the budget.
        BadInputError: it was cancelled.
    """
    begun = time.monotonic()
    until = begun + part * (bounds.until - begun)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700, parents=True)  # pictures of people, perhaps
    taken = 0
    last = 0.0
    pictures = Hams(bus).pictures(group, quality=QUALITY)
    try:
        while taken < count and not (taken >= LEAST and time.monotonic() >= until):
            async with asyncio.timeout(SILENCE_S):
                _, image = await anext(pictures)
            bounds.check("frames")
            now = asyncio.get_running_loop().time()
            if now - last < SPACING_S:
                continue
            last = now
            await asyncio.to_thread(_write, new / f"{taken:05d}.png", image)
            taken += 1
            progress("take frames", taken, count)
    except TimeoutError:
        raise DeadlineError(
            f"no frame of group {group} came within {SILENCE_S:g} s ({taken} of {count} taken)",
            "let one of its streams play (loop: true), or give a folder of frames with --samples",
        ) from None
    finally:
        await pictures.aclose()
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a PNG; OpenCV's own writing does not report a full disk."""
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
