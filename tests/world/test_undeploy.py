"""What an ended group leaves behind: nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.grey import video
from support.world.stub import StubDevice
from support.world.system import System, light


@pytest.fixture(autouse=True)
def rare_collections() -> Iterator[None]:
    """As in a pipeline, which looks for garbage rarely."""
    gc.disable()
    yield
    gc.enable()


def held() -> int:
    """Open files and mappings of this process in shared memory."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += "/dev/shm/" in os.readlink(f"/proc/self/fd/{name}")
    return found + Path("/proc/self/maps").read_text().count("/dev/shm/")


async def test_streams_that_end_give_their_memory_back(world: System, tmp_path: Path) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=100))
    source = str(video(tmp_path))
    counts = []
    for _ in range(5):
        await world.deploy(light({"source": source, "loop": True, "pace": "max"}))
        results = await world.listen()
        await world.until(lambda results=results: len(results.received) > 10)
        await world.control.undeploy("grey")
        await world.until(lambda: _none(world))
        await world.later(10)
        counts.append(held())
    assert max(counts) <= counts[0], counts


async def _none(world: System) -> bool:
    return not (await world.control.streams()).streams
