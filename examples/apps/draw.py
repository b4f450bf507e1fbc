"""Draws what a group sees into a video, live: reads a camera or file, pushes its frames, draws the results.

The group needs a stream that applications feed:

    streams:
      mine: {source: push, mode: lossless}

    python examples/apps/draw.py face clip.mp4 --out drawn.mp4
    python examples/apps/draw.py face camera:0 --out drawn.mp4     # until Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import closing
from functools import partial
from pathlib import Path

import hams_client
from hams_client import Result
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.reader import Reader
from hams_services.sinks.video import VideoFiles
from hams_shared.group.stream_spec import StreamSpec


async def draw(url: str | None, group: str, stream: str, source: str, out: Path) -> int:
    """Return how many frames were drawn."""
    waiting: dict[int, Picture] = {}
    news = asyncio.Event()
    newest = -1
    drawn = 0
    reader = Reader("draw")
    await reader.open(partial(open_source, StreamSpec.model_validate({"source": source})))
    with closing(VideoFiles(out)) as files:
        async with (
            hams_client.connect(url) as hams,
            hams.results(group, stream, limit=4096) as results,
            asyncio.TaskGroup() as tasks,
        ):

            async def paint() -> None:
                nonlocal drawn
                async for result in results:
                    while result.frame > newest:  # it came before the answer to its push
                        news.clear()
                        await news.wait()
                    picture = waiting.pop(result.frame, None)
                    if picture is None:
                        continue  # another application pushed it
                    for frame in [f for f in waiting if f < result.frame]:
                        del waiting[frame]  # results come in order: this frame was dropped
                    if picture.at is not None:  # its time in the video, not that of its push
                        result = Result({**result.data, "media_time_s": picture.at})
                    files.write(result, picture.pixels)
                    drawn += 1
                    news.set()

            painter = tasks.create_task(paint())
            try:
                while read := await reader.read():
                    picture = read[0]
                    newest = (await hams.push(group, stream, picture.pixels)).frame
                    waiting[newest] = picture
                    news.set()
            finally:
                await reader.stop()
            while waiting:  # the results of the last frames are on their way
                news.clear()
                try:
                    async with asyncio.timeout(30):
                        await news.wait()
                except TimeoutError:
                    print(f"no result of {len(waiting)} frames")
                    break
            painter.cancel()
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", help="name of a deployed group")
    parser.add_argument("source", help="video file, camera:NUMBER, or address of a camera")
    parser.add_argument("--stream", default="mine", help="the group's stream with source: push")
    parser.add_argument("--out", type=Path, default=Path("drawn.mp4"), help="video to write: .mp4 or .mkv")
    parser.add_argument("--nats", help="broker (default: that of the running hams-ctl up)")
    given = parser.parse_args()
    try:
        frames = asyncio.run(draw(given.nats, given.group, given.stream, given.source, given.out))
        print(f"{frames} frames drawn")  # a file that was there is kept, and a warning tells the new name
    except KeyboardInterrupt:
        pass
    except hams_client.HamsError as error:
        raise SystemExit(str(error)) from None
    except ExceptionGroup as group:  # of the two tasks
        if (known := group.subgroup(hams_client.HamsError)) is None:
            raise
        raise SystemExit(str(known.exceptions[0])) from None
