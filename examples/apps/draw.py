"""Draws what a group sees into a video, live: reads a camera or file, pushes its frames, draws the results.

The group needs a stream that applications feed:

    streams:
      mine: {source: push, mode: lossless}

    python examples/apps/draw.py face clip.mp4 --out drawn.mp4
    python examples/apps/draw.py face 0 --out drawn.mp4            # the first camera
"""

from __future__ import annotations

import argparse
import asyncio

import cv2
import numpy as np

import hams_client
from hams_services.sinks.draw import annotate


async def draw(url: str | None, group: str, stream: str, source: str, out: str) -> int:
    """Return how many frames were drawn."""
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        raise SystemExit(f"{source} cannot be opened")
    rate = capture.get(cv2.CAP_PROP_FPS) or 25
    waiting: dict[int, np.ndarray] = {}
    news = asyncio.Event()
    newest = -1
    writer: cv2.VideoWriter | None = None
    drawn = 0
    async with (
        hams_client.connect(url) as hams,
        hams.results(group, stream, limit=4096) as results,
        asyncio.TaskGroup() as tasks,
    ):

        async def paint() -> None:
            nonlocal writer, drawn
            async for result in results:
                while result.frame > newest:  # it came before the answer to its push
                    news.clear()
                    await news.wait()
                image = waiting.pop(result.frame, None)
                if image is None:
                    continue  # another application pushed it
                for frame in [f for f in waiting if f < result.frame]:
                    del waiting[frame]  # results come in order: this frame was dropped
                picture = annotate(image, result.objects)
                if writer is None:
                    size = (picture.shape[1], picture.shape[0])
                    writer = cv2.VideoWriter(out, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                writer.write(picture)
                drawn += 1
                news.set()

        painter = tasks.create_task(paint())
        while True:
            good, image = await asyncio.to_thread(capture.read)
            if not good:
                break
            newest = (await hams.push(group, stream, image)).frame
            waiting[newest] = image
            news.set()
        while waiting:  # the results of the last frames are on their way
            news.clear()
            try:
                async with asyncio.timeout(30):
                    await news.wait()
            except TimeoutError:
                print(f"no result of {len(waiting)} frames")
                break
        painter.cancel()
    if writer is not None:
        writer.release()
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", help="name of a deployed group")
    parser.add_argument("source", help="video file, or number of a camera")
    parser.add_argument("--stream", default="mine", help="the group's stream with source: push")
    parser.add_argument("--out", default="drawn.mp4", help="video to write")
    parser.add_argument("--nats", help="broker (default: that of the running hams-ctl up)")
    given = parser.parse_args()
    try:
        frames = asyncio.run(draw(given.nats, given.group, given.stream, given.source, given.out))
        print(f"{frames} frames drawn into {given.out}")
    except KeyboardInterrupt:
        pass
    except hams_client.HamsError as error:
        raise SystemExit(str(error)) from None
