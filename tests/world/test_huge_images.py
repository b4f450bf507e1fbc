"""A picture that is small as a file and huge as pixels harms nobody."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hams_shared.errors import SourceError
from support.bombs import png
from support.world.stub import StubDevice
from support.world.system import System, light, picture


async def test_a_bomb_is_refused_and_everything_goes_on(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    await world.deploy(light())
    bomb = png(20000, 20000)
    for _ in range(3):
        with pytest.raises(SourceError, match="20000×20000 pixels"):
            await world.hams.infer("grey", bomb)
        with pytest.raises(SourceError, match="20000×20000 pixels"):
            await world.hams.push("grey", "s0", bomb)
    assert (await world.hams.infer("grey", picture(5))).objects[0]["light"]["value"] == pytest.approx(20, abs=0.5)
    assert (await world.hams.push("grey", "s0", picture(6))).frame == 0
    large = np.full((2000, 3000, 3), 50, np.uint8)
    assert (await world.hams.infer("grey", large)).objects[0]["light"]["value"] == pytest.approx(50, abs=0.5)


async def test_a_frame_that_is_too_long_for_a_picture_harms_nobody(world: System) -> None:
    """A JPEG has 65,500 pixels in a row at most."""
    await world.box(a=StubDevice(fps=100))
    await world.deploy(light())
    seen: list[int] = []

    async def watch() -> None:
        async for result, _ in world.hams.pictures("grey"):
            seen.append(result.frame)

    watching = asyncio.ensure_future(watch())
    world.play(fps=10)
    await world.until(lambda: seen)
    long = (await world.hams.push("grey", "s0", np.full((2, 65_501, 3), 50, np.uint8))).frame
    await world.until(lambda: seen[-1] > long + 3)
    assert long not in seen
    assert (await world.stream()).delivered > long
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
