"""``python -m benchmarks.decoding.play FILE STREAMS SECONDS``: reads streams as the pipeline does; prints what it took.

SECONDS 0: one time through each file, as fast as it goes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from functools import partial
from pathlib import Path

from hams_services.pipeline.sources.files import Video
from hams_services.pipeline.sources.reader import Reader
from hams_shared.wire.frame_pool import FrameStore

SLOTS = 5
"""Frames in shared memory: as many as a live stream has."""


async def _play(number: int, path: Path, end: float | None) -> int:
    """Read one stream at its own pace until `end`, s of the loop's clock, or once; return the number of frames."""
    reader, store, clock = Reader(str(number)), FrameStore(SLOTS), asyncio.get_running_loop().time
    await reader.open(partial(Video, path))
    begin, count = clock(), 0
    while end is None or clock() < end:
        pictures = await reader.read(store.blanks(1))
        if not pictures:
            if end is None:
                break
            await reader.rewind()
            begin = clock()
            continue
        [picture] = pictures
        if end is not None and picture.at is not None:
            await asyncio.sleep(begin + picture.at - clock())
        store.put(count, picture.pixels)
        store.drop(count)
        count += 1
    await reader.stop()
    store.close()
    return count


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory() -> int:
    """Return the memory of this process, its share of what it shares included, bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def main() -> None:
    """Play, and print frames, CPU s and peak bytes as JSON."""
    path, streams, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    before, begun = _memory(), _cpu()
    end = asyncio.get_running_loop().time() + seconds if seconds else None
    plays = [asyncio.create_task(_play(n, path, end)) for n in range(streams)]
    peak = before
    while not all(play.done() for play in plays):
        await asyncio.wait(plays, timeout=0.25)
        peak = max(peak, _memory())
    frames = sum(play.result() for play in plays)
    print(json.dumps({"frames": frames, "cpu_s": _cpu() - begun, "bytes": peak - before}))


if __name__ == "__main__":
    asyncio.run(main())
