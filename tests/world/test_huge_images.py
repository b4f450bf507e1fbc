"""A picture that is small as a file and huge as pixels harms nobody."""

from __future__ import annotations

import numpy as np
import pytest

from hams_shared.errors import SourceError
from support.bombs import png
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
