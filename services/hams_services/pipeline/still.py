"""One picture of a source that need not be deployed: for those who draw zones on it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from hams_services.pipeline.previews import small_jpeg
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.reader import Reader
from hams_shared.errors import DeadlineError, SourceError
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.messages.pipeline import Still

DEADLINE_S = 20.0
"""Longest time until the first picture, s: the video may have to be fetched first, a camera sends a key frame late."""
QUALITY = 80


async def still(stream: StreamSpec, width: int, cache: Path) -> Still:
    """Return the first picture of a source, at most `width` pixels wide.

    Raises:
        DeadlineError: none came in time.
        HamsError: the errors of its source.
    """
    reader = Reader("still")
    try:
        async with asyncio.timeout(DEADLINE_S):
            await reader.open(partial(open_source, stream.model_copy(update={"substream": None}), cache))
            pictures = await reader.read([None])
            if not pictures:
                raise SourceError("the source has no pictures")
            rows, columns = pictures[0].pixels.shape[:2]
            jpeg, _ = await asyncio.to_thread(small_jpeg, pictures[0].pixels, width, QUALITY)
            return Still(jpeg=jpeg, width=columns, height=rows)
    except TimeoutError:
        raise DeadlineError(
            f"no picture came within {DEADLINE_S:g} s", "does the camera send, and is it free?"
        ) from None
    finally:
        await reader.stop()
