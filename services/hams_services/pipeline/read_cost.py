"""What reading a video costs: a trial that plays nothing, before the groups of the video are placed."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.reader import Reader
from hams_shared.errors import DeadlineError, SourceError
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.frames import Pixels
from hams_shared.wire.messages.pipeline import ReadCost

FRAMES, CPU_S = 64, 0.3
"""A trial reads so many frames at most, and none after this CPU time, s."""
AT_ONCE = 4
"""Frames per call of the reader."""
DEADLINE_S = 20.0
"""Longest time of a trial, s: the video may have to be fetched first."""


async def read_cost(stream: StreamSpec, cache: Path) -> ReadCost:
    """Read the beginning of a video.

    Raises:
        DeadlineError: it was not read in time.
        HamsError: the errors of its source.
    """
    reader = Reader("trial")
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await _measure(reader, stream, cache)
    except TimeoutError:
        raise DeadlineError(f"the video was not read within {DEADLINE_S:g} s") from None
    finally:
        await reader.stop()


async def _measure(reader: Reader, stream: StreamSpec, cache: Path) -> ReadCost:
    await reader.open(partial(open_source, stream, cache))
    frames = 0
    pictures: list[Picture] = []
    while frames < FRAMES and reader.cpu_s < CPU_S:
        pixels: list[Pixels | None] = [picture.pixels for picture in pictures] or [None] * AT_ONCE
        read = await reader.read(pixels)
        frames += len(read)
        pictures = read or pictures
        if len(read) < len(pixels):
            break
    if not frames:
        raise SourceError("the video has no frames")
    height, width = pictures[0].pixels.shape[:2]
    return ReadCost(cpu_ms=reader.cpu_s / frames * 1e3, frames=frames, pixels=height * width)
